"""Tables as CSV: every digit of a number, an empty cell for NaN."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from crossmod.entries import write_file


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows; the folder of the file is made if it is missing."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_cell, row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.getvalue())


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return value
