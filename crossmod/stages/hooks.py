"""The hook through which every plugin, built-in or third-party, offers its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from crossmod.stages.base import Stage

GROUP = "crossmod.plugins"
"""The entry-point group; the entry point's name is the name that `use` takes in a recipe."""

hookspec = pluggy.HookspecMarker("crossmod")
hookimpl = pluggy.HookimplMarker("crossmod")
"""Marks the function `crossmod_stage` of a plugin, which returns the class of its stage."""


@hookspec
def crossmod_stage() -> type[Stage[Any]]:
    """Return the stage class this plugin offers."""
    raise NotImplementedError
