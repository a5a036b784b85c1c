"""`crossmod schema` and `crossmod new recipe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schema(
    out: Annotated[
        Path | None, typer.Option(help="The file to write, as recipe.schema.json. Default: print.")
    ] = None,
) -> None:
    """Write the JSON Schema of recipes, with the options of the plugins that are installed."""
    import json

    from crossmod import console
    from crossmod.recipe.begin import write_schema
    from crossmod.recipe.schema import recipe_schema

    if out is None:
        typer.echo(json.dumps(recipe_schema(), indent=1))
        return
    written = write_schema(out)
    console.out.print(f"{written}: name it in the first line of a recipe,", markup=False)
    console.out.print(f"  #:schema ./{written.name}", markup=False)


def recipe(
    name: Annotated[Path, typer.Argument(help="The recipe to write, as mine.toml.")],
    base: Annotated[
        Path, typer.Option("--from", help="The recipe to start from: a file, or a shipped one.")
    ] = Path("quickstart"),
) -> None:
    """Write a recipe that extends another and shows its lines as comments, with a schema."""
    from crossmod import console
    from crossmod.recipe.begin import begin_recipe

    for written in begin_recipe(name, base):
        console.out.print(str(written), markup=False)
