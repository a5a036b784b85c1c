"""Where the voxels of a file lie: which affine counts, and whether it can be true."""

from __future__ import annotations

from itertools import product

import numpy as np

from crossmod.data.volumes import Affine
from crossmod.intake.nifti.header import Header
from crossmod.intake.results import FileFault

SHEAR = 1e-3
"""Cosine between two voxel axes above which they count as not perpendicular."""

NOISE = 1e-5
"""Cosines up to this are rounding of single precision."""

APART_MM, APART_DEGREES = 0.1, 0.1
"""Differences between qform and sform that are worth a remark."""

EXTENT_MM = (1.0, 5000.0)
"""How long the longest side of a scan can be; beyond it the unit is wrong."""

FARTHEST_MM = 1e5
"""How far from the origin a scan can lie; beyond it single precision misplaces voxels."""

SIZES = 0.01
"""Relative difference of two voxel sizes that is worth a remark."""


@np.errstate(all="ignore")  # what overflows is refused
def affine_of(header: Header, assume: bool) -> tuple[Affine, list[str]]:
    """The affine, voxel -> RAS+ mm, and what is odd about it.

    The sform counts before the qform, as for nibabel. SimpleITK takes the qform where both are
    set and the sform does not refer to the scanner; where they differ, it is said.

    Args:
        header: the header.
        assume: whether a file without any may lie as NIfTI's oldest readers take it.

    Raises:
        FileFault: there is none, or it is singular, not finite or sheared.
    """
    sform = header.sform
    if sform is not None:
        affine, remarks = straightened(sform, "sform")
        remarks += _disagreement(sform, header)
    elif (qform := header.qform) is not None:
        affine, remarks = straightened(qform, "qform")
    else:
        affine, remarks = _assumed(header, assume)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    unit = f"xyzt_units says {header.unit_mm:g} mm" if header.unit_mm != 1 else ""
    require_place(affine, header.shape, unit)
    if np.abs(sizes / header.pixdim_mm - 1).max() > SIZES:
        told = f"{_sizes(header.pixdim_mm)}, the affine {_sizes(sizes)}"
        remarks.append(f"pixdim: says {told}; using the affine")
    return affine, remarks


def require_place(affine: Affine, shape: tuple[int, ...], unit: str = "") -> None:
    """Refuse a grid of a size, or at a place, that no scan has.

    Args:
        affine: voxel -> RAS+ mm.
        shape: voxels ``(I, J, K)``.
        unit: what to look at where the size is wrong.

    Raises:
        FileFault: it is too small, too large or too far away.
    """
    longest = float((np.linalg.norm(affine[:3, :3], axis=0) * shape).max())
    if not EXTENT_MM[0] <= longest <= EXTENT_MM[1]:
        expected = f"{EXTENT_MM[0]:g} to {EXTENT_MM[1]:g} mm"
        raise FileFault("pixdim", f"the scan is {longest:.4g} mm long", expected, unit)
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        found = f"the first voxel lies at {affine[:3, 3].tolist()} mm"
        raise FileFault("affine", found, f"at most {FARTHEST_MM:g} mm from the origin")


def straightened(affine: Affine, field: str) -> tuple[Affine, list[str]]:
    """The affine with perpendicular axes, and whether that changed it by more than rounding.

    Raises:
        FileFault: it is singular, not finite or sheared.

    Example:
        >>> affine = np.diag([1.0, 1.0, 2.0, 1.0])
        >>> affine[0, 1] = 5e-4
        >>> straight, remarks = straightened(affine, "sform")
        >>> float(np.abs(straight[:3, 0] @ straight[:3, 1]).round(9)), len(remarks)
        (0.0, 1)
    """
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    volume = abs(np.linalg.det(axes / sizes)) if sizes.min() > 0 else 0.0
    if not np.isfinite(affine).all() or not volume > 1e-6:
        raise FileFault(field, f"no usable affine: {np.round(affine, 4).tolist()}", "three axes")
    shear = float(np.abs((axes / sizes).T @ (axes / sizes) - np.eye(3)).max())
    if shear <= NOISE:
        return affine, []
    if shear > SHEAR:
        raise FileFault(
            field,
            f"the voxel axes are not perpendicular: cosine {shear:.4f}",
            f"at most {SHEAR:g}",
            "resample it onto a grid without shear",
        )
    u, _, v = np.linalg.svd(axes / sizes)
    straight = affine.copy()
    straight[:3, :3] = (u @ v) * sizes
    return straight, [f"{field}: tiny shear (cosine {shear:.1e}) removed"]


def _assumed(header: Header, assume: bool) -> tuple[Affine, list[str]]:
    if not assume:
        raise FileFault(
            "qform, sform",
            "both are unset, so the orientation is unknown",
            "one of them",
            "convert it again from the original, or set intake.assume_affine = true in the recipe",
        )
    affine = np.diag([*(header.pixdim_mm * [-1, 1, 1]), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(header.shape) - 1) / 2)
    return affine, ["qform, sform: both are unset; assumed axes: left, front, head"]


def _disagreement(sform: Affine, header: Header) -> list[str]:
    try:
        qform = header.qform
    except FileFault as fault:
        return [f"{fault.told}; using the sform"]
    if qform is None:
        return []
    distance = corner_distance(sform, qform, header.shape)
    turns = [a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0) for a in (sform, qform)]
    cosines = np.clip((turns[0] * turns[1]).sum(axis=0), -1, 1)
    degrees = float(np.degrees(np.arccos(cosines.min())))
    if distance <= APART_MM and degrees <= APART_DEGREES:
        return []
    told = f"up to {distance:.2f} mm and {degrees:.2f} degrees apart"
    return [f"qform, sform: {told}; using the sform"]


def corner_distance(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """The farthest that two affines put a corner of the grid apart, mm.

    Example:
        >>> one, other = np.eye(4), np.eye(4)
        >>> other[:3, 3] = [3, 0, 4]
        >>> corner_distance(one, other, (10, 10, 5))
        5.0
    """
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))])
    return float(np.linalg.norm(corners @ (one - other)[:3].T, axis=1).max())


def _sizes(sizes_mm: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes_mm) + " mm"
