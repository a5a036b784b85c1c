"""What CrossMoDA ships beside its scans: the table of the source scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crossmod.errors import DataError
from crossmod.files.tables import read_csv

INFOS = "infos_source_training.csv"
"""CrossMoDA's table of source scans; it lies beside their folder."""

INFO_CENTERS = {"London": "ldn", "Tilburg": "etz"}
"""Hospitals in that table -> centers in CrossMoDA's case names."""


@dataclass(frozen=True)
class Info:
    """What CrossMoDA's table says of one source scan.

    Attributes:
        center: the hospital, "London" or "Tilburg".
        koos: Koos grade of the tumor, 1 to 4, or "post-operative-london".
    """

    center: str
    koos: str


def read_infos(path: Path) -> dict[str, Info]:
    """Case -> hospital and Koos grade from CrossMoDA's table of source scans.

    Raises:
        DataError: names the line that is no row of such a table.
    """
    columns = ("crossmoda_name", "center", "koos")
    rows = read_csv(path)
    _, names = next(rows, ("", []))
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"has no column {', '.join(missing)}", where=str(path), allowed=",".join(columns)
        )
    infos = {}
    for where, row in rows:
        if row and len(row) < len(names):
            raise DataError("is too short a row", where=where)
        if row:
            case, *known = (row[names.index(name)] for name in columns)
            infos[case] = Info(*known)
    return infos


def require_same_centers(
    centers: Mapping[str, str], infos: Mapping[str, Info], table: Path
) -> None:
    """Refuse a table that contradicts the case names.

    Args:
        centers: case -> center, from its name.
        infos: case -> what the table says.
        table: the file.

    Raises:
        DataError: it names another center for a case.
    """
    problems = []
    for case, center in centers.items():
        if case not in infos or center not in INFO_CENTERS.values():
            continue
        hospital = infos[case].center
        if INFO_CENTERS.get(hospital, center) != center:
            problems.append(f"{case}: {hospital} in the table, {center} by its name")
    if problems:
        raise DataError(
            "\n".join(["contradicts case names", *problems]),
            where=str(table),
            fix="correct the table, or data.centers in the recipe",
        )
