"""Which steps a recipe needs, in which order, and what a run folder holds.

The package can be called: `crossmod.run(recipe)` runs a recipe, as `crossmod run` does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossmod.notebook.opened import OpenRun


class Runs(ModuleType):
    """A module that runs recipes when it is called."""

    def __call__(
        self,
        recipe: str | Path,
        data: str | Path | None = None,
        *,
        out: str | Path | None = None,
        store: str | Path | None = None,
        set: Mapping[str, Any] | None = None,
        profile: str | Path | None = None,
        workers: int | None = None,
        quiet: bool = False,
    ) -> OpenRun:
        """Run a recipe, and open its run folder; steps that are stored are skipped.

        Args:
            recipe: a file, or the name of a shipped recipe.
            data: the data folder; by default what the recipe embeds, or $CROSSMOD_DATA.
            out: the run folder; by default ``runs/`` and the recipe's name.
            store: where results are kept for reuse; by default ``store/`` beside the run folder.
            set: changes of the recipe, as ``{"segment.iterations": 100}``; False unsets a key.
            profile: a file that describes the machine or cluster; by default $CROSSMOD_PROFILE.
            workers: how many steps are made at the same time on this machine.
            quiet: print nothing.

        Returns:
            The run folder, opened, as `crossmod.open_run` does.

        Raises:
            RecipeError: names everything that is wrong with the recipe.
            DataError: names everything that is wrong with the data.
            MachineError: the machine lacks something.
            PluginError: a plugin failed.
            CrossmodError: the run was stopped; call it again to resume.
        """
        running = import_module("crossmod.notebook.running")
        opened: OpenRun = running.run(
            recipe,
            data,
            out=out,
            store=store,
            settings=set or {},
            profile=profile,
            workers=workers,
            quiet=quiet,
        )
        return opened


sys.modules[__name__].__class__ = Runs
