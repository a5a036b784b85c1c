"""`crossmod new`: projects to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Write a plugin or a recipe to begin with; a plugin installs, runs and tests itself.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str,
    typer.Argument(
        help="Name of the plugin, as recipes will `use` it; also of the folder that is made here."
    ),
]


@app.command()
def translator(name: Name) -> None:
    """Write a translator: it makes images of one modality look like another."""
    _write(name, "translator")


@app.command()
def augmenter(name: Name) -> None:
    """Write an augmenter: it adds changed copies of labeled images."""
    _write(name, "augmenter")


@app.command()
def segmenter(name: Name) -> None:
    """Write a segmenter: it learns to outline structures, and outlines them."""
    _write(name, "segmenter")


@app.command()
def pseudo_labeler(name: Name) -> None:
    """Write a pseudo-labeler: it decides which predictions to learn from."""
    _write(name, "pseudo-labeler")


def _write(name: str, kind: str) -> None:
    from crossmod import console, scaffold

    names = scaffold.names_of(name, kind)
    scaffold.require_free(names)
    for path in scaffold.write_project(names, Path(name)):
        console.out.print(f"{name}/{path.as_posix()}", markup=False, highlight=False)
    console.out.print(
        f"\nthe {kind} '{name}' is in {name}/\n"
        f"  cd {name} && pip install -e '.[test]' && pytest && crossmod run recipe.toml",
        markup=False,
        highlight=False,
    )
