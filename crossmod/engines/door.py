"""Find and load engines. Every engine, the local one included, comes through an entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, cast

from crossmod.errors import PluginError
from crossmod.run.engine import Engine
from crossmod.stages.entries import Group, is_class, require_usable, rows

ENGINES = Group("crossmod.engines", "engine")
"""The entry point's name is the name of the engine in a profile, its value the engine's class."""


def available() -> dict[str, EntryPoint]:
    """All engines by name, broken ones too; nothing is imported."""
    return ENGINES.available()


@cache
def load(name: str) -> type[Engine[Any]]:
    """Import the engine that is called ``name``, one of those available.

    Raises:
        PluginError: a name taken twice, another version of crossmod needed, failing import, or
            what is offered is not an engine.
    """
    entry = available()[name]
    offered, where = ENGINES.load(entry), ENGINES.who(entry)
    if not is_class(offered, Engine):
        allowed = "a subclass of crossmod.engines.Engine"
        raise PluginError(f"{entry.value} is {offered!r}", where=where, allowed=allowed)
    require_usable(offered, where)
    return cast("type[Engine[Any]]", offered)


def engine_rows() -> list[tuple[str, str, str, str, str]]:
    """Name, kind, distribution, version and summary of each engine; broken ones say why."""
    return rows(available(), lambda name: ("engine", load(name)))
