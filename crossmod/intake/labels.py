"""Read a label map, and tell whether it lies on the grid of its scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.folder import SEGMENTATION, ending_of
from crossmod.data.grids import Grid, resample_labels
from crossmod.data.volumes import Affine, LabelArray
from crossmod.intake import extent
from crossmod.intake.formats.read import naming, read_file
from crossmod.intake.nifti.geometry import corner_distance
from crossmod.intake.options import Intake
from crossmod.intake.payload import Payload, joined, slabs_of
from crossmod.intake.results import FileFault, LabelMap

ROUNDING = 1e-3
"""Labels this close to a whole number are meant to be it."""

LARGEST_LABEL = 255

ROUNDED = "labels: rounded to whole numbers"
"""The remark on a label map whose values were none."""

ALLOWED_LABELS = f"whole numbers from 0 to {LARGEST_LABEL}"

SAME_VOXELS = 1e-3
"""Corners of two grids this many voxels apart, from float noise, are the same."""

SAME_TURN = np.array([8e-4, 3e-7, 3e-7, 3e-7])
"""Quaternions this far apart are the same: a qform holds the last three numbers, in single
precision; the first, which readers compute from them, is uncertain near half turns, where it is
small."""

DEFAULTS = Intake()


def load_labels(path: Path, options: Intake = DEFAULTS) -> LabelMap:
    """Read one label map, a file of any format; values that are whole but for rounding are rounded.

    At no time this takes more than twice the memory of the voxels as they are stored.

    Raises:
        DataError: it cannot be read, has no usable geometry, or holds values that are not whole
            numbers from 0 to 255.
        MachineError: memory is short.
    """
    with naming(path):
        file = read_file(path, options)
        labels, mended = whole(file.payload)
    partial = ending_of(path.name) == SEGMENTATION
    return LabelMap(labels, file.affine, file.digest, (*file.remarks, *mended), partial)


def whole(payload: Payload[Any]) -> tuple[LabelArray, list[str]]:
    """A label map as uint8 ``(I, J, K)``.

    Raises:
        FileFault: values are not whole numbers from 0 to 255.
    """
    with np.errstate(invalid="ignore"):
        spans = [(part.min(), part.max()) for part in slabs_of(payload)]
    low, high = np.min([span[0] for span in spans]), np.max([span[1] for span in spans])
    if not (low > -ROUNDING and high < LARGEST_LABEL + ROUNDING):
        raise FileFault("labels", f"values from {low:g} to {high:g}", ALLOWED_LABELS)
    stored, shape = payload.voxels.view(payload.header.kind), payload.header.shape
    if stored.dtype.kind in "iu" and not payload.header.is_scaled:
        return stored.astype(np.uint8, copy=False).reshape(shape, order="F"), []
    farthest = _farthest_from_whole(payload)
    nearest = (np.rint(part) for part in slabs_of(payload))
    labels = joined(nearest, np.empty(stored.size, np.uint8)).reshape(shape, order="F")
    return labels, [ROUNDED] if farthest else []


def _farthest_from_whole(payload: Payload[Any]) -> float:
    """How far values are from whole numbers at most.

    Raises:
        FileFault: so far that they are not meant to be whole.
    """
    farthest, count, first = 0.0, 0, None
    for part in slabs_of(payload):
        off = np.abs(part - np.rint(part))
        farthest = max(farthest, float(off.max()))
        if off.max() > ROUNDING:
            wrong = part[off > ROUNDING]
            count, first = count + wrong.size, wrong[0] if first is None else first
    if count:
        raise FileFault("labels", f"{count} voxels such as {first:g}", ALLOWED_LABELS)
    return farthest


def on_grid(found: LabelMap, grid: Grid, resample: bool) -> tuple[LabelArray, list[str]]:
    """The labels of a scan ``(I, J, K)``, on its grid.

    A segmentation that covers a part of its voxels is extended where no label is lost.

    Args:
        found: the label map.
        grid: the grid of the scan.
        resample: whether a label map on another grid is brought onto this one.

    Raises:
        FileFault: it lies on another grid.
    """
    lies = Grid(found.labels.shape, found.affine)
    fault = difference(lies, grid)
    if fault is None:
        return found.labels, rounding(lies, grid)
    place = extent.place_of(lies, grid) if found.partial or resample else None
    if place is not None:
        spread, lost = extent.extended(found.labels, place, grid.shape)
        if not lost:
            return spread, [extent.told(lies, grid)]
        if not resample:
            outside = f"{lost} labeled voxels lie outside the scan"
            raise FileFault("grid", outside, "a label map of this scan")
    if not resample:
        raise fault
    labels = resample_labels(found.labels, found.affine, grid)
    if found.labels.any() and not labels.any():
        raise FileFault("grid", "no label lies within the scan", "a label map of this scan")
    return labels, [f"{fault.told}; resampled"]


def difference(found: Grid, grid: Grid) -> FileFault | None:
    """What is wrong with a label map on one grid for a scan on another, or None.

    Nothing is wrong with float noise, nor with rotations that a qform cannot tell apart. Near half
    turns, which nearly straight axial scans are, it is uncertain by up to 0.09 degrees: that can be
    a voxel at the far corner.

    Example:
        >>> scan, moved = np.eye(4), np.eye(4)
        >>> moved[0, 3] = 2.0
        >>> difference(Grid((8, 8, 8), scan), Grid((8, 8, 8), scan)) is None
        True
        >>> difference(Grid((8, 8, 8), moved), Grid((8, 8, 8), scan)).where
        'affine'
    """
    fix = "intake.resample_labels = true in the recipe, if they belong together"
    if found.shape != grid.shape:
        return FileFault("dim", _voxels(found), _voxels(grid), fix)
    if _near(found, grid) or _same_turn(found, grid):
        return None
    what = f"lies up to {_apart_mm(found, grid):.3g} mm off: {_place(found)}"
    return FileFault("affine", what, _place(grid), fix)


def rounding(found: Grid, grid: Grid) -> list[str]:
    """Remarks on a label map and a scan whose grids are the same but for a rounded qform."""
    if _near(found, grid):
        return []
    apart = f"up to {_apart_mm(found, grid):.2g} mm from that of the scan"
    return [f"affine: {apart} by the rounding of a qform; that of the scan is taken"]


def _near(found: Grid, grid: Grid) -> bool:
    return _apart_mm(found, grid) <= SAME_VOXELS * min(grid.spacing_mm)


def _apart_mm(found: Grid, grid: Grid) -> float:
    return corner_distance(found.affine, grid.affine, grid.shape)


def _same_turn(found: Grid, grid: Grid) -> bool:
    """Whether two grids differ in a rotation only, by no more than a qform is uncertain."""
    turned = found.affine.copy()
    turned[:3, :3] = _directions(grid) * found.spacing_mm
    mirrored = np.linalg.det(found.affine) * np.linalg.det(grid.affine) < 0
    if mirrored or not _near(Grid(found.shape, turned), grid):
        return False
    one, other = _quaternion(found), _quaternion(grid)
    return any((np.abs(one - sign * other) <= SAME_TURN).all() for sign in (1, -1))


def _directions(grid: Grid) -> Affine:
    return grid.affine[:3, :3] / grid.spacing_mm


def _quaternion(grid: Grid) -> NDArray[np.float64]:
    """The rotation of the axes ``(4,)``; a mirrored third axis counts as its opposite."""
    from nibabel.quaternions import mat2quat

    axes = _directions(grid)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    return np.asarray(mat2quat(axes))


def _voxels(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape)) + " voxels"


def _place(grid: Grid) -> str:
    return f"{np.round(grid.affine[:3], 4).tolist()}"
