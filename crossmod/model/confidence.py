"""How sure a model is of each structure it outlines."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.data import Affine, FloatArray, Prediction, spacing_of
from crossmod.ensemble import agreement
from crossmod.metrics import as_cell
from crossmod.preprocess import Grid, resample

COLUMNS = ("case", "class", "agreement", "probability", "volume_mm3", "flag")
"""The columns of confidence.csv."""

AGREEING = 0.7
"""Agreement below which a structure is flagged. Not calibrated: choose your own from the column."""


@dataclass(frozen=True)
class Confidence:
    """How sure a model is of one structure of one scan.

    Attributes:
        case: case identifier.
        structure: class name.
        agreement: mean Dice between the label maps of every two folds; NaN with one fold.
        probability: mean probability of the class inside its outline; NaN without an outline.
        volume_mm3: volume inside the outline.
        flag: what a person should look at; empty where nothing is suspicious.
    """

    case: str
    structure: str
    agreement: float
    probability: float
    volume_mm3: float
    flag: str


def confidence(
    members: Sequence[Prediction],
    joined: Prediction,
    outlines: Mapping[str, NDArray[np.bool_]],
    labels: Mapping[str, int],
    native: Grid,
) -> list[Confidence]:
    """Judge the structures of one scan.

    Args:
        members: the prediction of every fold.
        joined: their mean, on the same grid.
        outlines: class name -> its final outline ``(I, J, K)`` on the grid of the scan.
        labels: class name -> label.
        native: the grid of the scan.
    """
    agreements = agreement(members, labels)
    voxel_mm3 = math.prod(spacing_of(native.affine))
    rows = []
    for name, label in labels.items():
        mask = outlines[name]
        shares, affine = joined.probabilities[label], joined.image.affine
        rows.append(
            Confidence(
                joined.case,
                name,
                agreements[name],
                _mean_inside(shares, affine, mask, native),
                int(np.count_nonzero(mask)) * voxel_mm3,
                _flag(agreements[name], mask, joined.labels == label),
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
        return "not found"
    flags = []
    if agreed < AGREEING:
        flags.append("folds disagree")
    if any(common.take(end, axis).any() for axis in range(3) for end in (0, -1)):
        flags.append("at the edge")
    return ", ".join(flags)


def write_confidence(path: Path, rows: Iterable[Confidence]) -> None:
    """Write a CSV with the columns `COLUMNS`; NaN becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            case, structure, *numbers, flag = astuple(row)
            writer.writerow([case, structure, *map(as_cell, numbers), flag])
