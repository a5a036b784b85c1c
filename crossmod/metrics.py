"""Dice and average symmetric surface distance: per case, as files, and as tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.data import Affine, LabelArray, spacing_of
from crossmod.errors import DataError

BoolArray = NDArray[np.bool_]

EMPTY_PREDICTION_MM = 350.0
"""Surface distance charged where only one of two masks is empty (CrossMoDA's penalty)."""

COLUMNS = ("split", "stage", "case", "center", "class", "dice", "assd_mm")
"""The columns of a score file."""

OVERALL = "overall"
"""The name of all centers together in a summary."""


@dataclass(frozen=True)
class Score:
    """How well one structure of one case was outlined.

    Attributes:
        split: which set the case belongs to, e.g. "validation" or "target".
        stage: what made the prediction, e.g. "translated" or "round-2".
        case: case identifier.
        center: the hospital it comes from.
        structure: class name.
        dice: overlap in [0, 1]; NaN where neither mask has the structure.
        assd_mm: average symmetric surface distance; NaN where `dice` is.
    """

    split: str
    stage: str
    case: str
    center: str
    structure: str
    dice: float
    assd_mm: float


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


def dice(prediction: BoolArray, reference: BoolArray) -> float:
    """Twice the overlap over the sum of sizes, in [0, 1]; NaN where both masks are empty."""
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    if total == 0:
        return math.nan
    return 2.0 * np.count_nonzero(prediction & reference) / total


def assd_mm(
    prediction: BoolArray, reference: BoolArray, spacing_mm: tuple[float, float, float]
) -> float:
    """Mean distance between the surfaces of two masks ``(I, J, K)``, as MedPy 0.5 defines it.

    A surface is made of the voxels with a face neighbor outside the mask. The distances from each
    surface voxel to the nearest one of the other mask, in both directions, are pooled.

    Returns:
        Millimeters; `EMPTY_PREDICTION_MM` where one mask is empty, NaN where both are.
    """
    filled = int(prediction.any()) + int(reference.any())
    if filled < 2:
        return EMPTY_PREDICTION_MM if filled else math.nan
    first, second = (_surface_mm(mask, spacing_mm) for mask in (prediction, reference))
    distances = np.concatenate([_nearest_mm(first, second), _nearest_mm(second, first)])
    return float(distances.mean())


def score(
    prediction: LabelArray, reference: LabelArray, affine: Affine, classes: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Compare two label maps ``(I, J, K)`` on one grid.

    Args:
        prediction: what was outlined.
        reference: what should have been.
        affine: ``(4, 4)`` of the reference, voxel -> RAS+ mm.
        classes: class name -> label.

    Returns:
        Class name -> (Dice, surface distance in mm).

    Raises:
        DataError: the grids differ.
    """
    if prediction.shape != reference.shape:
        raise DataError(
            f"a prediction of {prediction.shape} voxels cannot be compared with a reference"
            f" of {reference.shape}",
            fix="resample the prediction to the grid of the reference",
        )
    spacing_mm = spacing_of(affine)
    masks = {name: (prediction == label, reference == label) for name, label in classes.items()}
    return {name: (dice(*pair), assd_mm(*pair, spacing_mm)) for name, pair in masks.items()}


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write a CSV with the columns `COLUMNS`; NaN becomes an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in scores:
            numbers = ["" if math.isnan(x) else repr(float(x)) for x in (item.dice, item.assd_mm)]
            writer.writerow(
                [item.split, item.stage, item.case, item.center, item.structure, *numbers]
            )


def read_scores(path: Path) -> list[Score]:
    """Read what `write_scores` wrote.

    Raises:
        DataError: the columns are not `COLUMNS`, or a cell is not a number.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            raise DataError("is not a score file", where=str(path), allowed=",".join(COLUMNS))
        return [_parse(row, f"{path}:{reader.line_num}") for row in reader]


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
        *_mean_and_sd([item.dice for item in counted]),
        *_mean_and_sd(distances),
    )


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    mean = float(np.mean(values)) if values else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _parse(row: Sequence[str], where: str) -> Score:
    try:
        *words, overlap, distance = row
        split, stage, case, center, structure = words
        numbers = (float(cell or "nan") for cell in (overlap, distance))
        return Score(split, stage, case, center, structure, *numbers)
    except ValueError as error:
        raise DataError(f"is not a row of scores: {row}", where=where) from error


def _surface_mm(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Positions ``(N, 3)`` in mm of the mask's voxels that have a face neighbor outside it."""
    # Outside the mask's own box nothing is set, so only the box, with a rim of zeros, is looked at.
    corner, box = _box(mask)
    padded = np.pad(mask[box], 1)
    core = (slice(1, -1),) * 3
    inside = padded[core].copy()
    for axis in range(3):
        for part in (slice(None, -2), slice(2, None)):
            inside &= padded[(*core[:axis], part, *core[axis + 1 :])]
    voxels = np.argwhere(padded[core] & ~inside) + corner
    return np.asarray(voxels * np.asarray(spacing_mm), dtype=np.float64)


def _box(mask: BoolArray) -> tuple[NDArray[np.int64], tuple[slice, ...]]:
    """The first corner and the slices of the smallest box that holds a mask."""
    spans = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        spans.append((int(used[0]), int(used[-1]) + 1))
    corner = np.array([start for start, _ in spans], dtype=np.int64)
    return corner, tuple(slice(*span) for span in spans)


def _nearest_mm(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance ``(N,)`` from each point to the nearest of the others."""
    from scipy.spatial import cKDTree

    # Grid points fill space evenly, so the cheap split is as good as the balanced one.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0], dtype=np.float64)
