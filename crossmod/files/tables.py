"""Tables as CSV: every digit of a number, an empty cell for NaN; read from anywhere."""

from __future__ import annotations

import codecs
import csv
import math
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path

from crossmod.errors import DataError, reading


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(_cell, row) for row in rows)


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a file, each with where it ends, as ``file:line``.

    Raises:
        DataError: it cannot be read, is not UTF-8, or is no CSV, with its line; the mark that
            spreadsheets put in front of UTF-8 is no part of it.

    Example:
        >>> write_csv(Path("scores.csv"), ["case", "dice"], [["a", 0.5], ["b", math.nan]])
        >>> [row for _, row in read_csv(Path("scores.csv"))]
        [['case', 'dice'], ['a', '0.5'], ['b', '']]
        >>> [Path(where).name for where, _ in read_csv(Path("scores.csv"))]
        ['scores.csv:1', 'scores.csv:2', 'scores.csv:3']
    """
    reader = csv.reader(StringIO(_decoded(path), newline=""))
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"is not CSV: {error}", where=f"{path}:{reader.line_num}") from error


def _decoded(path: Path) -> str:
    with reading(path):
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise DataError(
            f"is not UTF-8: byte 0x{byte:02x}",
            where=f"{path}:{line}",
            fix="save it as CSV in UTF-8",
        ) from error


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return value
