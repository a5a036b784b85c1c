"""Whether a label map lies on the grid of its scan."""

from __future__ import annotations

import numpy as np

from crossmod.data import LabelArray
from crossmod.intake.faults import FileFault
from crossmod.intake.geometry import corner_distance
from crossmod.intake.loaded import LabelMap
from crossmod.preprocess import Grid, resample_labels

SAME_VOXELS = 1e-3
"""Corners of two grids this many voxels apart, from float noise, are the same."""


def on_grid(found: LabelMap, grid: Grid, resample: bool) -> tuple[LabelArray, list[str]]:
    """The labels of a scan ``(I, J, K)``, on its grid.

    Args:
        found: the label map.
        grid: the grid of the scan.
        resample: whether a label map on another grid is brought onto this one.

    Raises:
        FileFault: it lies on another grid.
    """
    fault = difference(Grid(found.labels.shape, found.affine), grid)
    if fault is None:
        return found.labels, []
    if not resample:
        raise fault
    labels = resample_labels(found.labels, found.affine, grid)
    if found.labels.any() and not labels.any():
        raise FileFault("grid", "no label lies within the scan", "a label map of this scan")
    return labels, [f"{fault.told}; resampled"]


def difference(found: Grid, grid: Grid) -> FileFault | None:
    """What is wrong with a label map on one grid for a scan on another, or None."""
    fix = "intake.resample_labels = true in the recipe, if they belong together"
    if found.shape != grid.shape:
        return FileFault("dim", _voxels(found), _voxels(grid), fix)
    apart_mm = corner_distance(found.affine, grid.affine, grid.shape)
    if apart_mm <= SAME_VOXELS * min(grid.spacing_mm):
        return None
    what = f"lies up to {apart_mm:.3g} mm elsewhere: {_place(found)}"
    return FileFault("affine", what, _place(grid), fix)


def _voxels(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape)) + " voxels"


def _place(grid: Grid) -> str:
    return f"{np.round(grid.affine[:3], 4).tolist()}"
