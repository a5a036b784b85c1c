"""The folder of figures beside a page: which files are there, and may they be replaced?"""

from __future__ import annotations

from pathlib import Path

from crossmod.files.outputs import Outputs

FIGURES = "figures"
"""The folder, beside the page."""

FORMATS = ("svg", "pdf")
"""The endings of its files."""


def require_figures(outputs: Outputs) -> None:
    """Refuse, before any work, to replace figures that somebody drew or changed.

    Args:
        outputs: of the page.

    Raises:
        DataError: names them.
    """
    figures = outputs.below(FIGURES)
    names = [path.name for path in figures_in(figures.folder)]
    figures.require(names, fix="move them to another folder")


def figures_in(folder: Path) -> list[Path]:
    """The figures that a folder holds, whoever drew them."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.suffix.removeprefix(".") in FORMATS]
