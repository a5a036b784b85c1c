"""CSV files that crossmod wrote, as tests read them."""

from __future__ import annotations

import csv
from pathlib import Path


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, each as column -> cell."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
