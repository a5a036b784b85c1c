"""`crossmod plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="Show the options of this plugin or engine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List plugins and engines, or show the options of one."""
    from crossmod import console
    from crossmod.engines import door
    from crossmod.stages.entry_points import summary
    from crossmod.stages.explain import option_rows, plugin_rows

    if name is None:
        rows = [*plugin_rows(), *door.engine_rows()]
        if as_json:
            _print([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        else:
            console.show(console.plugin_table(rows))
        return
    kind, offered, entry = _offered(name)
    if as_json:
        _print(_facts(name, kind, offered, entry))
        return
    console.out.print(f"{name} ({kind}): {summary(offered)}", markup=False)
    console.show(console.options_table(option_rows(offered.options_type)))


COLUMNS = ("name", "kind", "distribution", "version", "summary")
"""What is told of every plugin."""


def _offered(name: str) -> tuple[str, type[Any], EntryPoint]:
    """The kind of a plugin or engine, its class, and where it comes in."""
    from crossmod.engines import door
    from crossmod.errors import PluginError
    from crossmod.stages import find

    stages, engines = find.available(), door.available()
    if name in stages:
        plugin = find.load(name)
        return plugin.kind, plugin.stage, plugin.entry
    if name in engines:
        return "engine", door.load(name), engines[name]
    allowed = ", ".join([*stages, *engines])
    raise PluginError(f"unknown plugin or engine '{name}'", allowed=allowed)


def _facts(name: str, kind: str, offered: type[Any], entry: EntryPoint) -> dict[str, Any]:
    from crossmod.stages.entry_points import distribution_of, summary
    from crossmod.stages.explain import described

    told = (name, kind, *distribution_of(entry), summary(offered))
    return {
        **dict(zip(COLUMNS, told, strict=True)),
        "class": f"{offered.__module__}:{offered.__qualname__}",
        "options": described(offered.options_type),
    }


def _print(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
