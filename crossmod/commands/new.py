"""`crossmod new`: projects to begin with."""

from __future__ import annotations

import typer

app = typer.Typer(help="Write a recipe to begin with.", no_args_is_help=True, rich_markup_mode=None)
