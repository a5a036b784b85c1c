"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="A recipe file, or the name of a shipped one.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; repeatable."),
]
AllowOutside = Annotated[
    bool,
    typer.Option(
        help="Allow links out of the data folder, and `extends` out of the recipe's folder."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The data folder. Default: what the recipe embeds, $CROSSMOD_DATA."
    ),
]
