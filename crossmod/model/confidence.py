"""How sure a model is of each structure it outlines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.data.grids import Grid, resample
from crossmod.data.volumes import Affine, FloatArray, Prediction, spacing_of
from crossmod.errors import DataError
from crossmod.files.tables import read_csv, write_csv
from crossmod.model.calibration import UNKNOWN, Curve
from crossmod.model.ensemble import Ensemble, Outline

BEFORE = ("case", "class", "agreement", "probability", "volume_mm3", "flag", "removed_mm3")
"""The columns of confidence.csv as versions before calibration wrote it."""

COLUMNS = (*BEFORE, "expected_dice", "lower_dice", "upper_dice")
"""The columns of confidence.csv."""

NOT_FOUND = "not found"
"""The flag of a structure without an outline."""

AGREEING = 0.6
"""Agreement below which a structure is flagged: on the embedded cohort it separates outlines in the
wrong place from others (docs/how-to/use-a-model.md). Nobody has calibrated it on patients."""


@dataclass(frozen=True)
class Confidence:
    """How sure a model is of one structure of one scan.

    Attributes:
        case: case identifier.
        structure: class name.
        agreement: mean Dice between what every two folds outline; NaN with one fold. Of a class
            of which only the largest component is kept, only parts that touch it count.
        probability: mean probability of the class inside its outline; NaN without an outline.
        volume_mm3: volume inside the outline.
        flag: what a person should look at; empty where nothing is suspicious.
        removed_mm3: volume of the components that were removed, of a class of which only the
            largest is kept; 0 for others.
        expected_dice: the Dice to expect; NaN where the model has no calibration for the class, or
            without an outline.
        lower_dice: lower end of the interval that holds the Dice, see `Calibration.level`.
        upper_dice: its upper end.
    """

    case: str
    structure: str
    agreement: float
    probability: float
    volume_mm3: float
    flag: str
    removed_mm3: float
    expected_dice: float = math.nan
    lower_dice: float = math.nan
    upper_dice: float = math.nan


def confidence(
    ensemble: Ensemble,
    members: Sequence[Prediction],
    joined: Prediction,
    outline: Outline,
    native: Grid,
    curves: Mapping[str, Curve],
) -> list[Confidence]:
    """Judge the structures of one scan.

    Args:
        ensemble: what becomes of predictions.
        members: the prediction of every fold.
        joined: their mean, on the same grid.
        outline: the final label map.
        native: the grid of the scan, that of the outline.
        curves: class -> how its Dice follows from the agreement, where that is known.
    """
    classes, affine = ensemble.classes, joined.image.affine
    common = ensemble.cleaned(joined.labels)
    agreements = ensemble.agreement([one.labels for one in members], common)
    voxel_mm3 = math.prod(spacing_of(native.affine))
    rows = []
    for name, label in classes.labels.items():
        mask = outline.labels == classes.values[name][0]
        rows.append(
            Confidence(
                joined.case,
                name,
                agreements[name],
                _mean_inside(joined.probabilities[label], affine, mask, native),
                int(np.count_nonzero(mask)) * voxel_mm3,
                _flag(agreements[name], mask, common == label),
                outline.removed_mm3.get(name, 0.0),
                *(curves[name].at(agreements[name]) if name in curves and mask.any() else UNKNOWN),
            )
        )
    return rows


def _mean_inside(
    shares: FloatArray, affine: Affine, mask: NDArray[np.bool_], native: Grid
) -> float:
    if not mask.any():
        return math.nan
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(used[0]), int(used[-1]) + 1) for used in found)
    return float(resample(shares, affine, native.part(box))[mask[box]].mean())


def _flag(agreed: float, mask: NDArray[np.bool_], common: NDArray[np.bool_]) -> str:
    if not mask.any():
        return NOT_FOUND
    flags = []
    if agreed < AGREEING:
        flags.append("folds disagree")
    if any(common.take(end, axis).any() for axis in range(3) for end in (0, -1)):
        flags.append("at the edge")
    return ", ".join(flags)


def by_need(rows: Iterable[Confidence]) -> list[Confidence]:
    """The rows of cases that a person should look at first, then those of others.

    Cases with a flag come before those without; among them, the lowest Dice to expect of any
    structure decides, or the lowest agreement where the model has no calibration. Of a structure
    that was not found, the Dice to expect is 0.
    """
    cases: dict[str, list[Confidence]] = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    return [row for several in sorted(cases.values(), key=_need) for row in several]


def _need(rows: Sequence[Confidence]) -> tuple[bool, float]:
    unflagged = not any(row.flag for row in rows)
    if any(row.flag == NOT_FOUND for row in rows):
        return unflagged, 0.0
    expected = [row.expected_dice for row in rows if not math.isnan(row.expected_dice)]
    agreed = [row.agreement for row in rows if not math.isnan(row.agreement)]
    return unflagged, min(expected or agreed, default=1.0)


def write_confidence(path: Path, rows: Iterable[Confidence]) -> None:
    """Write a CSV with the columns `COLUMNS`; NaN becomes an empty cell."""
    write_csv(path, COLUMNS, map(astuple, rows))


def read_confidence(path: Path) -> list[Confidence]:
    """The rows of a file that `write_confidence` wrote.

    Raises:
        DataError: it is another file.
    """
    (where, head), *rows = read_csv(path)
    if tuple(head) not in (COLUMNS, BEFORE):
        raise DataError("has other columns", where=where, allowed=", ".join(COLUMNS))
    return [_row(row, where) for where, row in rows]


def _row(cells: Sequence[str], where: str) -> Confidence:
    try:
        case, structure, *texts = cells
        flag = texts.pop(3)
        values = [float(text or "nan") for text in texts]
        agreement, probability, volume, removed, *expected = values
        return Confidence(case, structure, agreement, probability, volume, flag, removed, *expected)
    except (IndexError, TypeError, ValueError) as error:
        raise DataError(f"is not a row of confidences: {error}", where=where) from error
