"""Reads one scan and refuses what a segmenter would silently get wrong."""

from __future__ import annotations

import numpy as np

from crossmod.data import Affine, FloatArray, Volume
from crossmod.errors import DataError
from crossmod.intake.dicom import read_series
from crossmod.intake.find import ScanFile
from crossmod.intake.nifti import read_nifti

SHEAR = 1e-3
"""Cosine between two voxel axes above which they count as not perpendicular."""


def read_scan(scan: ScanFile) -> Volume:
    """Read one scan.

    Returns:
        The volume ``(1, I, J, K)`` in the units of the file, on the grid of the file; the axes I, J
        and K of a DICOM series run along its rows, its columns and from slice to slice.

    Raises:
        DataError: it cannot be read, is not one 3D image of real numbers, or has no usable
            geometry.
    """
    where = str(scan.path)
    data, affine = read_series(scan.path) if scan.path.is_dir() else read_nifti(scan.path)
    _check_geometry(affine, where)
    _check_values(data, where)
    return Volume.of(data[np.newaxis], affine, case=scan.case)


def _check_geometry(affine: Affine, where: str) -> None:
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0:
        raise DataError(f"has no usable affine: {affine.tolist()}", where=where)
    cosines = (axes / lengths).T @ (axes / lengths)
    if np.abs(cosines - np.eye(3)).max() > SHEAR:
        raise DataError(
            "its voxel axes are not perpendicular",
            where=where,
            fix="resample it on a grid without shear",
        )


def _check_values(data: FloatArray, where: str) -> None:
    wrong = data.size - int(np.count_nonzero(np.isfinite(data)))
    if wrong:
        raise DataError(f"{wrong} of {data.size} voxels are NaN or infinite", where=where)
    if data.min() == data.max():
        raise DataError(f"all voxels have the value {data.min():g}", where=where)
