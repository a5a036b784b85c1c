"""Read a scan, a file or a DICOM series, and refuse what cannot be trusted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.grids import Grid
from crossmod.data.volumes import FloatArray
from crossmod.intake.dicom import read_series
from crossmod.intake.formats.read import naming, read_file, read_grid
from crossmod.intake.options import Intake
from crossmod.intake.payload import slabs, values_of
from crossmod.intake.results import FileFault, Loaded

DEFAULTS = Intake()

FEW = 10
"""The values of a scan span more than this; those of a label map span less."""


def load_scan(path: Path, options: Intake = DEFAULTS, series: str = "") -> Loaded:
    """Read one scan; every byte that has a checksum is checked.

    Of a file, this takes at no time more than twice the memory of the voxels, as they are stored or
    as float32, whichever is more.

    Args:
        path: a NIfTI, NRRD, MetaImage or MGH file, or a folder of DICOM files.
        options: what is done with files that are not as they should be.
        series: which series of a folder: its UID, or a pattern of its description; may be empty
            where there is one only.

    Returns:
        The scan in the units of the file, on the grid of the file; the axes I, J and K of a DICOM
        series run along its rows, its columns and from slice to slice.

    Raises:
        DataError: it cannot be read, is not one 3D image of real numbers, or has no usable
            geometry or values; names file, field, what was found and what was expected.
        MachineError: memory is short, or DICOM cannot be read here.

    Example:
        >>> import nibabel, numpy
        >>> voxels = numpy.arange(24, dtype="int16").reshape(2, 3, 4)
        >>> nibabel.Nifti1Image(voxels, numpy.diag([1, 1, 2, 1])).to_filename("scan.nii.gz")
        >>> scan = load_scan(Path("scan.nii.gz"))
        >>> scan.data.shape, scan.data.dtype.name, scan.affine.diagonal().tolist()
        ((2, 3, 4), 'float32', [1.0, 1.0, 2.0, 1.0])
    """
    if not _is_folder(path):
        with naming(path):
            file = read_file(path, options)
            data, mended = finite(values_of(file.payload), options)
        return Loaded(data, file.affine, file.digest, (*file.remarks, *mended), file.form)
    found = read_series(path, series=series, limits=options.limits)
    try:
        data, mended = finite(found.data, options)
    except FileFault as fault:
        raise fault.of(path) from fault
    return replace(found, data=data, remarks=(*found.remarks, *mended))


def load_grid(path: Path, options: Intake = DEFAULTS, series: str = "") -> Grid:
    """Where the voxels of a scan lie; of a file only the header is read.

    Raises:
        DataError: as `load_scan`, as far as the header tells.
    """
    if not _is_folder(path):
        with naming(path):
            return read_grid(path, options)
    found = load_scan(path, options, series)
    return Grid(found.data.shape, found.affine)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # where it cannot be told, reading it says why
        return path.is_dir()
    return False


def finite(values: NDArray[Any], options: Intake) -> tuple[FloatArray, list[str]]:
    """An image as float32 ``(I, J, K)``.

    Args:
        values: the voxels ``(I, J, K)``; if they are float32, those that are not finite become 0
            in place where the options say so.
        options: what is done with voxels that are not finite.

    Raises:
        FileFault: voxels are NaN or infinite, or all are the same.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        data = values.astype(np.float32, copy=False)  # in the order of the file, which is faster
        low, high = _span(values)  # stored numbers are often shorter
    remarks = []
    if not np.isfinite([low, high]).all():
        wrong = np.isfinite(data)
        np.logical_not(wrong, out=wrong)
        first = tuple(int(n) for n in np.unravel_index(wrong.argmax(), wrong.shape))
        many = f"{np.count_nonzero(wrong)} of {data.size}"
        found = f"{many} are NaN or infinite as float32, first at {first}"
        if options.nonfinite == "refuse":
            fix = 'set intake.nonfinite = "zero" in the recipe to replace them with 0'
            raise FileFault("voxels", found, "finite numbers", fix)
        np.copyto(data, 0, where=wrong)
        remarks.append(f"voxels: {found}; set to 0")
        low, high = _span(data)
    if low == high:
        differ = not remarks and values.min() < values.max()
        found = f"all have the value {low:g}" + " as float32" * bool(differ)
        raise FileFault("voxels", found, "an image", "scale or shift the values" * bool(differ))
    return data, remarks


def _span(data: NDArray[Any]) -> tuple[float, float]:
    """Least and largest value as float32; NaN where there is one."""
    return float(np.float32(data.min())), float(np.float32(data.max()))


def few_values(data: NDArray[np.float32]) -> tuple[int, ...]:
    """The values of a scan that holds only a few whole numbers, as label maps do; else nothing."""
    low, high = data.min(), data.max()
    if low < 0 or high > 255 or high - low > FEW:
        return ()
    if not all(np.array_equal(part, np.rint(part)) for part in slabs(data)):
        return ()
    return whole_values(data)


def whole_values(data: NDArray[np.uint8 | np.float32]) -> tuple[int, ...]:
    """The whole numbers from 0 to 255 that an array holds."""
    counts = np.zeros(256, np.int64)
    for part in slabs(data):
        counts += np.bincount(part.astype(np.uint8, copy=False), minlength=256)
    return tuple(map(int, np.flatnonzero(counts)))
