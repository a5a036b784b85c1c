"""How well a prediction matches a reference: per case, as files, and as means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmod.data.overlap import dice
from crossmod.data.volumes import Affine, spacing_of
from crossmod.errors import DataError
from crossmod.files.tables import read_csv, write_csv
from crossmod.scores.statistics import mean_and_sd
from crossmod.scores.surfaces import BoolArray, Definition, Spacing, surface_distances

EMPTY_PREDICTION_MM = 350.0
"""Surface distance charged where only one of two masks is empty (CrossMoDA's penalty)."""

TOLERANCE_MM = 1.0
"""Surfaces this close count as one for the normalized surface Dice, unless told otherwise."""

COLUMNS = (
    *("split", "stage", "case", "center", "class"),
    *("dice", "assd_mm", "hd95_mm", "nsd", "volume_error", "volume_mm3"),
)
"""The columns of a score file."""

OVERALL = "overall"
"""The name of all centers together in a summary."""


class Measures(NamedTuple):
    """How well one mask matches another, and how much there was to outline.

    Where one of the two is empty, Dice and NSD are 0 and both distances `EMPTY_PREDICTION_MM`;
    where both are, these and the volume error are NaN.

    Attributes:
        dice: twice the overlap over the sum of sizes, in [0, 1].
        assd_mm: average symmetric surface distance.
        hd95_mm: 95th percentile of the surface distances.
        nsd: share of both surfaces within a tolerance of the other, in [0, 1].
        volume_error: (prediction - reference) / reference, -1 where only the prediction is empty
            and more elsewhere; NaN where the reference is.
        volume_mm3: volume of the reference.
    """

    dice: float
    assd_mm: float
    hd95_mm: float
    nsd: float
    volume_error: float
    volume_mm3: float


@dataclass(frozen=True)
class Score:
    """How well one structure of one case was outlined.

    Attributes:
        split: which set the case belongs to, e.g. "validation" or "target".
        stage: what made the prediction, e.g. "translated" or "round-2".
        case: case identifier.
        center: the hospital it comes from.
        structure: class name.
        dice: as in `Measures`; so are the others.
    """

    split: str
    stage: str
    case: str
    center: str
    structure: str
    dice: float
    assd_mm: float
    hd95_mm: float
    nsd: float
    volume_error: float
    volume_mm3: float


@dataclass(frozen=True)
class Summary:
    """The scores of one stage and structure in one center, or in all.

    Attributes:
        stage: what made the predictions.
        center: center name, or `OVERALL`.
        cases: how many cases the means are over.
        not_applicable: further cases in which neither mask has the structure.
        penalized: how many of `cases` carry `EMPTY_PREDICTION_MM`.
        dice_mean: mean Dice, NaN without cases.
        dice_sd: sample standard deviation, NaN below two cases.
        assd_mean_mm: mean distance, penalties included.
        assd_sd_mm: sample standard deviation, penalties included.
    """

    stage: str
    center: str
    cases: int
    not_applicable: int
    penalized: int
    dice_mean: float
    dice_sd: float
    assd_mean_mm: float
    assd_sd_mm: float


def compare(
    prediction: BoolArray,
    reference: BoolArray,
    spacing_mm: Spacing,
    *,
    tolerance_mm: float = TOLERANCE_MM,
    definition: Definition = "pooled",
    voxel_mm3: float | None = None,
) -> Measures:
    """Compare two masks ``(I, J, K)`` on one grid; surfaces are measured once for all metrics.

    Args:
        prediction: what was outlined.
        reference: what should have been.
        spacing_mm: voxel size along I, J, K.
        tolerance_mm: for the normalized surface Dice.
        definition: which mean the average symmetric surface distance is.
        voxel_mm3: volume of a voxel. Default: the product of `spacing_mm`.
    """
    voxel_mm3 = math.prod(spacing_mm) if voxel_mm3 is None else voxel_mm3
    predicted, expected = np.count_nonzero(prediction), np.count_nonzero(reference)
    error = (predicted - expected) / expected if expected else math.nan
    sizes = error, expected * voxel_mm3
    if not predicted and not expected:
        return Measures(math.nan, math.nan, math.nan, math.nan, *sizes)
    if not predicted or not expected:
        return Measures(0.0, EMPTY_PREDICTION_MM, EMPTY_PREDICTION_MM, 0.0, *sizes)
    distances = surface_distances(prediction, reference, spacing_mm)
    return Measures(
        dice(prediction, reference),
        distances.assd_mm(definition),
        distances.hd95_mm(),
        distances.nsd(tolerance_mm),
        *sizes,
    )


def score(
    prediction: NDArray[np.integer[Any]],
    reference: NDArray[np.integer[Any]],
    affine: Affine,
    classes: Mapping[str, int],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    challenge: bool = False,
) -> dict[str, Measures]:
    """Compare two label maps ``(I, J, K)`` on one grid.

    Args:
        prediction: what was outlined.
        reference: what should have been.
        affine: ``(4, 4)`` of the reference, voxel -> RAS+ mm.
        classes: class name -> label.
        tolerance_mm: for the normalized surface Dice.
        challenge: measure distances as the organizers of CrossMoDA 2022 did: the size of a voxel is
            the diagonal of the affine, and the surface distance is the mean of two directed means
            (``scores.py`` of CrossMoDA2022-Evaluation-code with MedPy 0.4). Otherwise voxels
            have their true size, also where the grid is oblique, and the distances are pooled.
            Volumes are true either way.

    Returns:
        Class name -> metrics.

    Raises:
        DataError: the grids differ, or the diagonal of the affine says nothing about voxels.
    """
    if prediction.shape != reference.shape:
        raise DataError(
            f"a prediction of {prediction.shape} voxels cannot be compared with a reference"
            f" of {reference.shape}",
            fix="resample the prediction to the grid of the reference",
        )
    spacing_mm = _diagonal(affine) if challenge else spacing_of(affine)
    definition: Definition = "directed" if challenge else "pooled"
    return {
        name: compare(
            prediction == label,
            reference == label,
            spacing_mm,
            tolerance_mm=tolerance_mm,
            definition=definition,
            voxel_mm3=abs(float(np.linalg.det(affine[:3, :3]))),
        )
        for name, label in classes.items()
    }


def _diagonal(affine: Affine) -> Spacing:
    x, y, z = (abs(float(affine[axis, axis])) for axis in range(3))
    # Where axes are swapped the diagonal is zero but for rounding, and so would be all distances.
    if min(x, y, z) < 0.01 * min(spacing_of(affine)):
        raise DataError(
            f"the diagonal of the affine ({x:g}, {y:g}, {z:g}) is not the size of a voxel",
            fix="leave out --challenge, or store the label maps along the axes of the patient",
        )
    return x, y, z


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write a CSV with the columns `COLUMNS`; NaN becomes an empty cell."""
    write_csv(path, COLUMNS, map(astuple, scores))


def read_scores(path: Path) -> list[Score]:
    """Read what `write_scores` wrote.

    Raises:
        DataError: the columns are not `COLUMNS`, or a cell is neither a finite number nor empty.
    """
    rows = read_csv(path)
    _, header = next(rows, ("", []))
    if tuple(header) != COLUMNS:
        raise DataError("is not a score file", where=str(path), allowed=",".join(COLUMNS))
    return [_parse(row, where) for where, row in rows]


def summarize(scores: Sequence[Score], split: str, structure: str) -> list[Summary]:
    """Means and standard deviations: stages as they first appear, centers by name, then overall."""
    kept = [item for item in scores if item.split == split and item.structure == structure]
    rows = []
    for stage in dict.fromkeys(item.stage for item in kept):
        of_stage = [item for item in kept if item.stage == stage]
        for center in sorted({item.center for item in of_stage}):
            rows.append(_summary([s for s in of_stage if s.center == center], stage, center))
        rows.append(_summary(of_stage, stage, OVERALL))
    return rows


def _summary(scores: Sequence[Score], stage: str, center: str) -> Summary:
    counted = [item for item in scores if not math.isnan(item.dice)]
    distances = [item.assd_mm for item in counted]
    return Summary(
        stage,
        center,
        len(counted),
        len(scores) - len(counted),
        distances.count(EMPTY_PREDICTION_MM),
        *mean_and_sd([item.dice for item in counted]),
        *mean_and_sd(distances),
    )


def _parse(row: Sequence[str], where: str) -> Score:
    try:
        split, stage, case, center, structure, *cells = row
        numbers = Measures(*(float(cell or "nan") for cell in cells))
    except (TypeError, ValueError) as error:
        raise DataError(f"is not a row of scores: {row}", where=where) from error
    if any(map(math.isinf, numbers)):
        raise DataError(f"holds an infinite number: {row}", where=where)
    return Score(split, stage, case, center, structure, *numbers)
