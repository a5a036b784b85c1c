"""Find and load engines. Every engine, the local one included, comes through an entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, cast

from crossmod.errors import PluginError
from crossmod.run.engine import Engine
from crossmod.stages.entry_points import imported, is_class, offers, require_usable, rows

GROUP = "crossmod.engines"
"""The entry-point group: a name is that of an engine in a profile, its value the engine's class."""


def available() -> dict[str, EntryPoint]:
    """All engines by name, broken ones too; nothing is imported."""
    return {name: entries[0] for name, entries in offers(GROUP).items()}


@cache
def load(name: str) -> type[Engine[Any]]:
    """Import the engine that is called ``name``.

    Raises:
        PluginError: unknown name, a name taken twice, another version of crossmod needed, failing
            import, or what is offered is not an engine.
    """
    known = available()
    offered, where = imported(GROUP, "engine", name, known)
    if not is_class(offered, Engine):
        allowed = "a subclass of crossmod.engines.Engine"
        raise PluginError(f"{known[name].value} is {offered!r}", where=where, allowed=allowed)
    require_usable(offered, where)
    return cast("type[Engine[Any]]", offered)


def engine_rows() -> list[tuple[str, str, str, str, str]]:
    """Name, kind, distribution, version and summary of each engine; broken ones say why."""
    return rows(available(), lambda name: ("engine", load(name)))
