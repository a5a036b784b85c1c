"""Tables as CSV: every digit of a number, an empty cell for NaN; read from anywhere.

Spreadsheets of many countries separate cells by semicolons, and BIDS by tabs; the first line tells.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path

from crossmod.errors import DataError
from crossmod.files.text import read_text

SEPARATORS = (",", ";", "\t")
"""What may stand between cells."""


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(_cell, row) for row in rows)


def write_records(
    path: Path, rows: Iterable[Mapping[str, object]], first: Iterable[str] = ()
) -> None:
    """Write rows by column; a cell is empty where a row has no such column.

    Args:
        path: the file.
        rows: column -> cell.
        first: the columns to begin with; others follow as they come.

    Raises:
        OSError: it cannot be written.
    """
    rows = list(rows)
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    write_csv(path, names, ([row.get(name, "") for name in names] for row in rows))


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a file, each with where it ends, as ``file:line``.

    Cells are separated by what the first line has most of: commas, semicolons or tabs; in a file
    whose name ends with .tsv by tabs.

    Raises:
        DataError: it cannot be read, is not text in UTF-8 or marked as UTF-16, or is not CSV, with
            its line.

    Example:
        >>> write_csv(Path("scores.csv"), ["case", "dice"], [["a", 0.5], ["b", math.nan]])
        >>> [row for _, row in read_csv(Path("scores.csv"))]
        [['case', 'dice'], ['a', '0.5'], ['b', '']]
        >>> [Path(where).name for where, _ in read_csv(Path("scores.csv"))]
        ['scores.csv:1', 'scores.csv:2', 'scores.csv:3']
    """
    text = read_text(path)
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(text)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"is not CSV: {error}", where=f"{path}:{reader.line_num}") from error


def _separator(text: str) -> str:
    """What stands between the names of columns, outside of quotes."""
    head = "".join(text.lstrip("\r\n").splitlines()[:1]).split('"')[::2]
    return max(SEPARATORS, key=lambda one: sum(part.count(one) for part in head))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return value
