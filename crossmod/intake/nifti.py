"""NIfTI files from outside."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data import Affine, FloatArray
from crossmod.errors import DataError


def read_nifti(path: Path) -> tuple[FloatArray, Affine]:
    """Data ``(I, J, K)`` and voxel -> RAS+ mm of a NIfTI file.

    Raises:
        DataError: it is not NIfTI, damaged, not one 3D image of real numbers, or does not say how
            it lies.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    where = str(path)
    unreadable = (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError)
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise DataError(f"is a {type(image).__name__}", where=where, allowed="a NIfTI image")
        _check_header(image, where)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (*unreadable, OverflowError) as error:
        raise DataError(f"cannot be read as NIfTI: {error}", where=where) from error
    data = data.reshape(data.shape[:3])
    return np.ascontiguousarray(data), np.asarray(image.affine, dtype=np.float64)


def _check_header(image: Any, where: str) -> None:
    shape, header = image.shape, image.header
    kind = image.get_data_dtype()
    if len([n for n in shape[:3] if n > 1]) < 3 or any(n > 1 for n in shape[3:]):
        raise DataError(
            f"has {' x '.join(map(str, shape))} voxels", where=where, allowed="one 3D image"
        )
    if kind.kind not in "iuf":
        raise DataError(f"has voxels of type {kind}", where=where, allowed="real numbers")
    if not (header["sform_code"] or header["qform_code"]):
        raise DataError(
            "does not say how it lies: sform and qform are both unset",
            where=where,
            fix="convert it again from its source, or set the sform",
        )
