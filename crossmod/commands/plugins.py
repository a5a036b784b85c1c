"""`crossmod plugins`."""

from __future__ import annotations

from typing import Annotated

import typer


def plugins(
    name: Annotated[str | None, typer.Argument(help="Show the options of this plugin.")] = None,
) -> None:
    """List plugins, or explain one."""
    from crossmod import console
    from crossmod.stages import find as found
    from crossmod.stages.explain import option_rows, plugin_rows

    if name is None:
        console.out.print(console.plugin_table(plugin_rows()))
        return
    plugin = found.load(name)
    console.out.print(f"{name} ({plugin.kind}): {plugin.summary}", markup=False)
    console.out.print(console.options_table(option_rows(plugin.stage.options_type)))
