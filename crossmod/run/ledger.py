"""What pseudo-labelers noted of every target case in every round, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from crossmod.data.curves import read_rows
from crossmod.files.tables import write_records

Row: TypeAlias = Mapping[str, str | float]
"""Column -> cell of one case in one round."""

FIRST = ("round", "case", "center", "kept", "why")
"""The columns that every ledger begins with; others are those of the plugin."""


def read_round(number: int, folder: Path) -> list[Row]:
    """The rows of a round, from the folder of its pseudo-labels; empty where none were noted."""
    rows = read_rows(folder)
    return [{"round": number, **row} for row in rows if "case" in row and "kept" in row]


def write_ledger(path: Path, rows: Sequence[Row]) -> None:
    """Write a CSV; a cell is empty where a case has no such figure."""
    write_records(path, rows, FIRST)
