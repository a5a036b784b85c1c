"""NIfTI files, read and written straight from memory; voxels brought into their order or back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossmod.files.packed import CHUNK, created

Number = TypeVar("Number", bound=np.generic)


def save(image: Any, path: Path) -> None:
    """Write the bytes that nibabel writes, but faster; voxels in the order of the file uncopied.

    Args:
        image: a nibabel image of the version of NIfTI to write, its data ``(I, J, K)`` in memory.
        path: the file, compressed if its name says so; its folder is made.

    Raises:
        OSError: the disk is full, for instance.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image.update_header()
    header = image.header
    header.set_slope_inter(1, 0)
    data = np.asarray(image.dataobj).astype(header.get_data_dtype(), copy=False)
    voxels = in_c_order(data.T).reshape(-1).view(np.uint8)
    with created(path) as file:
        header.write_to(file)
        for start in range(0, voxels.size, CHUNK):
            file.write(voxels[start : start + CHUNK].data)


def in_c_order(data: NDArray[Number]) -> NDArray[Number]:
    """The same ``(I, J, K)`` data in C order; a copy only where they lie in another order.

    Each plane goes through a copy that the processor's cache holds, which is about three times as
    fast as one copy of the whole.
    """
    if data.flags.c_contiguous:
        return data
    result = np.empty(data.shape, data.dtype)
    for plane in range(data.shape[1]):
        result[:, plane] = data[:, plane].copy(order="K")
    return result


NIFTI1_SIDE = 32767
"""Voxels along an axis that the header of NIfTI-1 can say."""


def write_nifti(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write ``(I, J, K)`` data as NIfTI, compressed if the name says so."""
    import nibabel

    kind = nibabel.Nifti1Image if max(data.shape) <= NIFTI1_SIDE else nibabel.Nifti2Image
    image = kind(data, affine)
    image.header.set_xyzt_units("mm")
    save(image, path)


def read_grid(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape ``(I, J, K)`` and affine of a NIfTI file; only the header is read."""
    import nibabel

    image = nibabel.load(path)
    return tuple(image.shape), np.asarray(image.affine, dtype=np.float64)


def read_affine(path: Path) -> NDArray[np.float64]:
    """The affine of a NIfTI file, voxel -> RAS+ mm."""
    return read_grid(path)[1]


def read_image(path: Path) -> NDArray[np.float32]:
    """The data of a NIfTI file as float32 ``(1, I, J, K)``."""
    import nibabel

    data = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
    return in_c_order(data)[np.newaxis]


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The data of a NIfTI label map as uint8 ``(I, J, K)``."""
    import nibabel

    return in_c_order(np.asarray(nibabel.load(path).dataobj).astype(np.uint8))
