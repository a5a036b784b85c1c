"""NIfTI files from outside: weighed, read, and held against what a reader makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data import Affine, FloatArray, LabelArray
from crossmod.intake.faults import FileFault
from crossmod.intake.geometry import affine_of
from crossmod.intake.header import Header
from crossmod.intake.loaded import LabelMap, Loaded
from crossmod.intake.options import Intake
from crossmod.intake.payload import Payload, read_header, read_payload, values_of
from crossmod.preprocess import Grid

ROUNDING = 1e-3
"""Labels this close to a whole number are meant to be it."""

LARGEST_LABEL = 255


def load_nifti(path: Path, options: Intake) -> Loaded:
    """Read a scan; every byte that has a checksum is checked.

    Raises:
        DataError: it is damaged, not one 3D image of real numbers, or has no usable geometry or
            values; names file, field, what was found and what was expected.
    """
    try:
        file = _Read.of(path, options)
        data, mended = finite(file.values(), options)
    except FileFault as fault:
        raise fault.of(path) from fault
    return Loaded(data, file.affine, file.digest, (*file.remarks, *mended))


def load_nifti_labels(path: Path, options: Intake) -> LabelMap:
    """Read a label map; values that are whole but for rounding are rounded.

    Raises:
        DataError: as `load_nifti`, or values that are not whole numbers from 0 to 255.
    """
    try:
        file = _Read.of(path, options)
        labels, mended = whole(file.values())
    except FileFault as fault:
        raise fault.of(path) from fault
    return LabelMap(labels, file.affine, file.digest, (*file.remarks, *mended))


def load_nifti_grid(path: Path, options: Intake) -> Grid:
    """Where the voxels of a file lie; only the header is read.

    Raises:
        DataError: it cannot be true.
    """
    try:
        header = read_header(path)
        affine, _ = affine_of(header, options.assume_affine)
    except FileFault as fault:
        raise fault.of(path) from fault
    return Grid(header.shape, affine)


@dataclass(frozen=True, eq=False)
class _Read:
    """A file whose header and bytes have been checked."""

    payload: Payload
    affine: Affine
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, options: Intake) -> _Read:
        payload = read_payload(path, options.limits)
        affine, remarks = affine_of(payload.header, options.assume_affine)
        _compare_with_reader(payload.header)
        named = [*payload.header.remarks, *remarks]
        if payload.gzipped != (path.suffix == ".gz"):
            kind = "gzip" if payload.gzipped else "plain NIfTI"
            named.append(f"name: the content is {kind}, the name says otherwise")
        return cls(payload, affine, tuple(named))

    @property
    def digest(self) -> str:
        return self.payload.digest

    def values(self) -> NDArray[Any]:
        return values_of(self.payload)


def _compare_with_reader(header: Header) -> None:
    """Hold what was parsed against what nibabel makes of the same header.

    Raises:
        FileFault: they disagree, so one of them must not be trusted.
    """
    from nibabel import nifti1, nifti2

    old = header.raw.dtype.itemsize == nifti1.header_dtype.itemsize
    block = BytesIO(header.raw.tobytes() + bytes(4))  # no extensions
    reader = (nifti1.Nifti1Header if old else nifti2.Nifti2Header).from_fileobj(block, check=False)
    shape, kind = tuple(reader.get_data_shape()[:3]), reader.get_data_dtype()
    sizes = np.abs(reader.get_zooms()[:3]) * header.unit_mm
    for field, theirs, ours, same in (
        ("dim", shape, header.shape, shape == header.shape),
        ("datatype", kind, header.kind, kind == header.kind),
        ("pixdim", sizes, header.pixdim_mm, np.allclose(sizes, header.pixdim_mm)),
    ):
        if not same:
            raise FileFault(field, f"nibabel reads {theirs}", f"{ours}")


def finite(values: NDArray[Any], options: Intake) -> tuple[FloatArray, list[str]]:
    """An image as float32 ``(I, J, K)``.

    Raises:
        FileFault: voxels are NaN or infinite, or all are the same.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        data = values.astype(np.float32, copy=False)  # in the order of the file, which is faster
        low, high = _span(values)  # stored numbers are often shorter
    remarks = []
    if not np.isfinite([low, high]).all():
        wrong = ~np.isfinite(data)
        first = tuple(int(n) for n in np.argwhere(wrong)[0])
        many = f"{np.count_nonzero(wrong)} of {data.size}"
        found = f"{many} are NaN or infinite as float32, first at {first}"
        if options.nonfinite == "refuse":
            fix = 'intake.nonfinite = "zero" in the recipe sets them to 0'
            raise FileFault("voxels", found, "finite numbers", fix)
        data = np.where(wrong, np.float32(0), data)
        remarks.append(f"voxels: {found}; set to 0")
        low, high = _span(data)
    if low == high:
        raise FileFault("voxels", f"all have the value {low:g}", "an image")
    return data, remarks


def whole(values: NDArray[Any]) -> tuple[LabelArray, list[str]]:
    """A label map as uint8 ``(I, J, K)``.

    Raises:
        FileFault: values are not whole numbers from 0 to 255.
    """
    allowed = f"whole numbers from 0 to {LARGEST_LABEL}"
    with np.errstate(invalid="ignore"):
        low, high = values.min(), values.max()
    if not (low > -ROUNDING and high < LARGEST_LABEL + ROUNDING):
        raise FileFault("labels", f"values from {low:g} to {high:g}", allowed)
    if values.dtype.kind in "iu":
        return values.astype(np.uint8, copy=False), []
    nearest = np.rint(values)
    off = np.abs(values - nearest)
    if off.max() > ROUNDING:
        first = values[tuple(np.argwhere(off > ROUNDING)[0])]
        count = np.count_nonzero(off > ROUNDING)
        raise FileFault("labels", f"{count} voxels such as {first:g}", allowed)
    remarks = ["labels: rounded to whole numbers"] if off.any() else []
    return nearest.astype(np.uint8), remarks


def _span(data: NDArray[Any]) -> tuple[float, float]:
    """Least and largest value as float32; NaN where there is one."""
    return float(np.float32(data.min())), float(np.float32(data.max()))
