"""Tables of a run folder: DataFrames where pandas is installed, else lists of dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from crossmod.errors import DataError, counted
from crossmod.files.tables import read_csv

NAMES = frozenset({"split", "stage", "case", "center", "patient", "class", "structure", "variant"})
"""Columns that hold names, whatever these look like."""

AGAIN = "remove the file, then run the recipe again; finished steps are kept"
"""What mends a damaged table."""


def table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame where pandas is installed, else as a list of dictionaries."""
    try:
        frame = import_module("pandas").DataFrame
    except ImportError:
        return [dict(row) for row in rows]
    return frame(list(rows))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file; numbers are numbers, and an empty cell among them is NaN.

    Raises:
        DataError: it cannot be read, is empty, or a line has more or fewer cells than the header.
    """
    header, *lines = _lines(path)
    columns = [_typed(name, [line[place] for line in lines]) for place, name in enumerate(header)]
    return [dict(zip(header, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _lines(path: Path) -> list[list[str]]:
    """The rows of a table, all of one length."""
    found = [(where, row) for where, row in read_csv(path) if row]
    if not found:
        raise DataError("is empty", where=str(path), fix=AGAIN)
    width = len(found[0][1])
    for where, row in found:
        if len(row) != width:
            what = f"has {counted(len(row), 'cell')}"
            raise DataError(what, where=where, allowed=f"{width}, as the header has", fix=AGAIN)
    return [row for _, row in found]


def _typed(name: str, cells: Sequence[str]) -> list[Any]:
    try:
        numbers = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return list(cells)
    return list(cells) if name in NAMES or not any(cells) else numbers
