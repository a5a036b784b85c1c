"""Label maps that cover a part of the voxels of their scan, as 3D Slicer writes segmentations."""

from __future__ import annotations

import numpy as np

from crossmod.data.grids import Grid
from crossmod.data.volumes import LabelArray
from crossmod.intake.nifti.geometry import corner_distance

OFF_VOXELS = 1e-3
"""Voxels that lie no further from those of the scan, from float noise, are the same."""

Place = tuple[int, int, int]


def place_of(found: Grid, grid: Grid) -> Place | None:
    """Which voxel of a grid the first voxel of another one is; None where voxels differ.

    Grids of one size are not compared: a label map that lies a whole voxel off is not a part.

    Example:
        >>> affine = np.diag([2.0, 2.0, 3.0, 1.0])
        >>> part = affine.copy()
        >>> part[:3, 3] = [4, 0, 9]
        >>> place_of(Grid((4, 8, 2), part), Grid((8, 8, 8), affine))
        (2, 0, 3)
    """
    if found.shape == grid.shape:
        return None
    first = (np.linalg.inv(grid.affine) @ found.affine)[:3, 3]
    if not np.isfinite(first).all() or np.abs(first).max() > 1e6:
        return None
    place = np.rint(first)
    expected = grid.affine.copy()
    expected[:3, 3] = (grid.affine @ [*place, 1])[:3]
    if corner_distance(found.affine, expected, found.shape) > OFF_VOXELS * min(grid.spacing_mm):
        return None
    return int(place[0]), int(place[1]), int(place[2])


def lies_within(place: Place, found: Grid, grid: Grid) -> bool:
    """Whether all voxels of a part are voxels of the grid."""
    return all(at >= 0 and at + n <= whole
               for at, n, whole in zip(place, found.shape, grid.shape, strict=True))  # fmt: skip


def extended(labels: LabelArray, place: Place, shape: tuple[int, ...]) -> tuple[LabelArray, int]:
    """A part ``(I, J, K)`` on the whole grid, background around it, and how many labels are lost.

    Args:
        labels: the part.
        place: voxel of the grid at which it begins.
        shape: voxels of the grid.
    """
    into, out = [], []
    for at, n, size in zip(place, labels.shape, shape, strict=True):
        low, high = min(max(at, 0), size), min(max(at + n, 0), size)
        into.append(slice(low, high))
        out.append(slice(low - at, high - at))
    whole = np.zeros(shape, np.uint8)
    whole[tuple(into)] = labels[tuple(out)]
    return whole, int(np.count_nonzero(labels)) - int(np.count_nonzero(whole))


def told(found: Grid, grid: Grid) -> str:
    """A remark on a part of a grid."""
    sizes = [" x ".join(map(str, one.shape)) for one in (found, grid)]
    return f"dim: covers {sizes[0]} of the scan's {sizes[1]} voxels; the rest is background"
