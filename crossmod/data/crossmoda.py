"""The CrossMoDA challenge: what its data and its scores are like, and the paper's sizes.

The defaults of crossmod are those of this challenge, under neutral names. Recipes say the rest;
nothing else knows the challenge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossmod.errors import DataError
from crossmod.files.tables import read_csv

CHALLENGE = "CrossMoDA 2022"
"""The edition whose folders and scores are meant."""

DEFAULT_CLASSES: Mapping[str, int] = {"tumor": 1, "cochlea": 2}
"""Class name -> label, for whoever does not name classes."""

DEFAULT_STRUCTURE = "tumor"
"""The class that lesions are of, for recipes that do not name it."""

DEFAULT_CENTERS: Mapping[str, str] = {"ldn": "crossmoda2021_ldn_*", "etz": "crossmoda2022_etz_*"}
"""Center -> pattern of its case ids."""

LABEL_ENDING = "_Label"
"""How the names of label maps end."""

EMPTY_PREDICTION_MM = 350.0
"""The surface distance that the challenge charges where only one of two masks is empty."""

SIZE_LIMITS_MM3 = (288.0, 2340.0)
"""Tumors below the first and above the second volume are the paper's small and large ones."""

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
        DataError: names the line that is not a row of such a table.
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


def infos_beside(root: Path, images: str, centers: Mapping[str, str]) -> dict[str, Info]:
    """What the table beside a folder of source scans says; nothing if it is missing.

    Args:
        root: the data folder.
        images: pattern of the source scans.
        centers: case -> center, from its name.

    Raises:
        DataError: it is not such a table, or contradicts the case names.
    """
    table = (root / images).parent.parent / INFOS
    if not table.is_file():
        return {}
    infos = read_infos(table)
    require_same_centers(centers, infos, table)
    return infos


def grades(infos: Iterable[Info]) -> str:
    """How many tumors have which Koos grade, as "Koos 1: 3, 2: 5"; empty without tumors."""
    counts = Counter(info.koos.removesuffix("-london") for info in infos)
    listed = ", ".join(f"{grade}: {count}" for grade, count in sorted(counts.items()))
    return f"Koos {listed}" if listed else ""


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
