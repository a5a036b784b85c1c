"""Read a scan or a label map, whatever it is stored as, and refuse what cannot be trusted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from crossmod.data.grids import Grid
from crossmod.intake.dicom import read_series
from crossmod.intake.faults import FileFault
from crossmod.intake.loaded import LabelMap, Loaded
from crossmod.intake.nifti.read import finite, load_nifti, load_nifti_grid, load_nifti_labels
from crossmod.intake.options import Intake

DEFAULTS = Intake()


def load_scan(path: Path, options: Intake = DEFAULTS, series: str = "") -> Loaded:
    """Read one scan.

    Args:
        path: a NIfTI file, or a folder of DICOM files.
        options: what is done with files that are not as they should be.
        series: which series of a folder: its UID, or a pattern of its description; may be empty
            where there is one only.

    Returns:
        The scan in the units of the file, on the grid of the file; the axes I, J and K of a DICOM
        series run along its rows, its columns and from slice to slice.

    Raises:
        DataError: it cannot be read, is not one 3D image of real numbers, or has no usable
            geometry or values.

    Example:
        >>> import nibabel, numpy
        >>> voxels = numpy.arange(24, dtype="int16").reshape(2, 3, 4)
        >>> nibabel.Nifti1Image(voxels, numpy.diag([1, 1, 2, 1])).to_filename("scan.nii.gz")
        >>> scan = load_scan(Path("scan.nii.gz"))
        >>> scan.data.shape, scan.data.dtype.name, scan.affine.diagonal().tolist()
        ((2, 3, 4), 'float32', [1.0, 1.0, 2.0, 1.0])
    """
    if not _is_folder(path):
        return load_nifti(path, options)
    found = read_series(path, series=series, limits=options.limits)
    try:
        data, mended = finite(found.data, options)
    except FileFault as fault:
        raise fault.of(path) from fault
    return replace(found, data=data, remarks=(*found.remarks, *mended))


def load_grid(path: Path, options: Intake = DEFAULTS, series: str = "") -> Grid:
    """Where the voxels of a scan lie; of a NIfTI file only the header is read.

    Raises:
        DataError: as `load_scan`, as far as the header tells.
    """
    if not _is_folder(path):
        return load_nifti_grid(path, options)
    found = load_scan(path, options, series)
    return Grid(found.data.shape, found.affine)


def load_labels(path: Path, options: Intake = DEFAULTS) -> LabelMap:
    """Read one label map, a NIfTI file.

    Raises:
        DataError: it cannot be read, has no usable geometry, or holds values that are not whole
            numbers from 0 to 255.
    """
    return load_nifti_labels(path, options)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # where it cannot be told, reading it says why
        return path.is_dir()
    return False
