"""`crossmod plugins`."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="Show the options of this plugin or engine.")
    ] = None,
) -> None:
    """List plugins and engines, or show the options of one."""
    from crossmod import console
    from crossmod.engines import door
    from crossmod.errors import PluginError
    from crossmod.stages import find
    from crossmod.stages.entry_points import summary
    from crossmod.stages.explain import option_rows, plugin_rows

    if name is None:
        console.show(console.plugin_table([*plugin_rows(), *door.engine_rows()]))
        return
    offered: type[Any]
    stages, engines = find.available(), door.available()
    if name in stages:
        plugin = find.load(name)
        kind, offered = plugin.kind, plugin.stage
    elif name in engines:
        kind, offered = "engine", door.load(name)
    else:
        allowed = ", ".join([*stages, *engines])
        raise PluginError(f"unknown plugin or engine '{name}'", allowed=allowed)
    console.out.print(f"{name} ({kind}): {summary(offered)}", markup=False)
    console.show(console.options_table(option_rows(offered.options_type)))
