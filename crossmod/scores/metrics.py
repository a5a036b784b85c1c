"""Scores of label maps: each class of a case by every metric, as files, and as means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Affine, spacing_of
from crossmod.errors import DataError, itemized
from crossmod.files.tables import read_csv, write_csv
from crossmod.scores.statistics import mean_and_sd
from crossmod.scores.surfaces import Definition, Spacing
from crossmod.scores.table import (
    ASSD,
    BUILT_IN,
    DICE,
    KEYS,
    TOLERANCE_MM,
    Masks,
    Metric,
    metrics,
    reported,
)

COLUMNS = (*KEYS, *(metric.column for metric in BUILT_IN))
"""The columns that every score file begins with; those of metrics of other packages follow."""

CASE_KEYS = KEYS[2:]
"""What a row is about where there is one split and one stage."""

OVERALL = "overall"
"""The name of all centers together in a summary."""

Measures = Mapping[str, float]
"""Column of a metric -> its value, NaN where it is not defined."""


@dataclass(frozen=True)
class Score:
    """How well one structure of one case was outlined.

    Attributes:
        split: which set the case belongs to, e.g. "validation" or "target"; "" without
            splits.
        stage: what made the prediction, e.g. "translated" or "round-2"; "" where that is unknown.
        case: case identifier.
        center: the hospital it comes from, or "".
        structure: class name.
        measures: the metrics.
    """

    split: str
    stage: str
    case: str
    center: str
    structure: str
    measures: Measures

    def of(self, metric: Metric) -> float:
        """The value of a metric; NaN where it is not defined or was not measured."""
        return self.measures.get(metric.column, math.nan)


@dataclass(frozen=True)
class Summary:
    """The scores of one stage and structure in one center, or in all.

    Attributes:
        stage: what made the predictions.
        center: center name, or `OVERALL`.
        cases: how many cases the means are over.
        not_applicable: further cases in which neither mask has the structure.
        penalized: in how many of `cases` only one mask has it.
        spreads: column -> mean (NaN without cases) and sample standard deviation (NaN below two
            cases) of every metric that reports show, penalties included.
    """

    stage: str
    center: str
    cases: int
    not_applicable: int
    penalized: int
    spreads: Mapping[str, tuple[float, float]]


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

    >>> found, truth = np.zeros((2, 3, 3, 3), np.uint8)
    >>> truth[1, 1, 1] = 1
    >>> scored = score(found, truth, np.eye(4), {"tumor": 1})
    >>> scored["tumor"]["dice"], scored["tumor"]["assd_mm"]
    (0.0, 350.0)
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
        name: measure(
            Masks(
                prediction == label,
                reference == label,
                spacing_mm,
                voxel_mm3=abs(float(np.linalg.det(affine[:3, :3]))),
                tolerance_mm=tolerance_mm,
                definition=definition,
            )
        )
        for name, label in classes.items()
    }


def measure(masks: Masks) -> dict[str, float]:
    """Column -> value of every metric for two masks.

    >>> first, second = np.zeros((2, 5, 5, 5), bool)
    >>> first[2, 2, 2] = second[2, 2, 3] = True
    >>> measured = measure(Masks(first, second, (1.0, 1.0, 2.5), voxel_mm3=2.5))
    >>> measured["dice"], measured["assd_mm"], measured["volume_mm3"]
    (0.0, 2.5, 2.5)
    """
    return {metric.column: metric.measure(masks) for metric in metrics()}


def _diagonal(affine: Affine) -> Spacing:
    x, y, z = (abs(float(affine[axis, axis])) for axis in range(3))
    # Where axes are swapped the diagonal is zero but for rounding, and so would be all distances.
    if min(x, y, z) < 0.01 * min(spacing_of(affine)):
        raise DataError(
            f"the diagonal of the affine ({x:g}, {y:g}, {z:g}) is not the size of a voxel",
            fix="leave out --challenge, or store the label maps along the axes of the patient",
        )
    return x, y, z


def write_scores(path: Path, scores: Iterable[Score], *, keys: Sequence[str] = KEYS) -> None:
    """Write a CSV with a row for each score: `keys`, then every metric; NaN becomes an empty cell.

    Args:
        path: the file.
        scores: in the order of the rows.
        keys: which of `KEYS` to write.
    """
    columns = [metric.column for metric in metrics()]
    write_csv(path, [*keys, *columns], (_cells(item, keys, columns) for item in scores))


def _cells(item: Score, keys: Sequence[str], columns: Sequence[str]) -> list[str | float]:
    names = dict(
        zip(KEYS, (item.split, item.stage, item.case, item.center, item.structure), strict=True)
    )
    return [*(names[key] for key in keys), *(item.measures.get(c, math.nan) for c in columns)]


def read_scores(path: Path, *, check: bool = False) -> list[Score]:
    """Read what `write_scores` wrote, here or where other metrics are installed.

    The keys are all of `KEYS`, as runs write them, or `CASE_KEYS`, as `crossmod evaluate` does.

    Args:
        path: the file.
        check: refuse values outside the range of their metric, since people may have edited it.

    Raises:
        DataError: the columns do not begin with `COLUMNS`, with or without split and stage; one is
            repeated; a cell is neither a finite number nor empty; or a value is impossible.
    """
    rows = read_csv(path)
    _, header = next(rows, ("", []))
    keys = _keys_of(header)
    wanted = [*keys, *COLUMNS[len(KEYS) :]]
    if header[: len(wanted)] != wanted or len(set(header)) < len(header):
        raise DataError("is not a score file", where=str(path), allowed=",".join(COLUMNS))
    blank = [""] * (len(KEYS) - len(keys))
    found, problems = [], []
    for where, row in rows:
        if row:
            found.append(_parse([*blank, *row], header[len(keys) :], where))
            problems += [f"{where}: {text}" for text in _faults(found[-1])]
    if check and problems:
        raise DataError(itemized("impossible values:", problems))
    return found


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
    counted = [item for item in scores if not math.isnan(item.of(DICE))]
    return Summary(
        stage,
        center,
        len(counted),
        len(scores) - len(counted),
        sum(item.of(ASSD) == ASSD.missing for item in counted),
        {m.column: mean_and_sd(known(counted, m)) for m in reported()},
    )


def is_score_file(path: Path) -> bool:
    """Whether a CSV has columns as `read_scores` wants them.

    Raises:
        DataError: the file is not CSV in UTF-8.
    """
    _, header = next(read_csv(path), ("", []))
    keys = _keys_of(header)
    return tuple(header[: len(keys)]) == keys


def _keys_of(header: Sequence[str]) -> tuple[str, ...]:
    return KEYS if tuple(header[:1]) == KEYS[:1] else CASE_KEYS


def _faults(score: Score) -> list[str]:
    return [
        f"{metric.column} of case {score.case}, class {score.structure} is {value:g}: {fault}"
        for metric in metrics()
        if (fault := metric.fault(value := score.of(metric)))
    ]


def known(scores: Iterable[Score], metric: Metric) -> list[float]:
    """The values of a metric where it is defined."""
    return [value for item in scores if not math.isnan(value := item.of(metric))]


def _parse(row: Sequence[str], columns: Sequence[str], where: str) -> Score:
    names, cells = row[: len(KEYS)], row[len(KEYS) :]
    try:
        values = [float(cell or "nan") for cell in cells]
        measures = dict(zip(columns, values, strict=True))
    except ValueError as error:
        raise DataError(f"is not a row of scores: {row}", where=where) from error
    if any(map(math.isinf, values)):
        raise DataError(f"holds an infinite number: {row}", where=where)
    split, stage, case, center, structure = names
    return Score(split, stage, case, center, structure, measures)
