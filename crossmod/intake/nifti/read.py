"""NIfTI files from outside: weighed, read, and held against what a reader makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.grids import Grid
from crossmod.data.volumes import Affine, FloatArray, LabelArray
from crossmod.errors import MachineError
from crossmod.intake.faults import FileFault
from crossmod.intake.loaded import LabelMap, Loaded
from crossmod.intake.nifti.geometry import affine_of
from crossmod.intake.nifti.header import Header
from crossmod.intake.nifti.payload import (
    Payload,
    joined,
    read_header,
    read_payload,
    slabs_of,
    values_of,
)
from crossmod.intake.options import Intake

ROUNDING = 1e-3
"""Labels this close to a whole number are meant to be it."""

LARGEST_LABEL = 255

ROUNDED = "labels: rounded to whole numbers"
"""The remark on a label map whose values were none."""

ALLOWED_LABELS = f"whole numbers from 0 to {LARGEST_LABEL}"


def load_nifti(path: Path, options: Intake) -> Loaded:
    """Read a scan; every byte that has a checksum is checked.

    At no time this takes more than twice the memory of the voxels, as they are stored or as
    float32, whichever is more.

    Raises:
        DataError: it is damaged, not one 3D image of real numbers, or has no usable geometry or
            values; names file, field, what was found and what was expected.
        MachineError: there is not enough memory.
    """
    with naming(path):
        file = _Read.of(path, options)
        data, mended = finite(values_of(file.payload), options)
    return Loaded(data, file.affine, file.digest, (*file.remarks, *mended))


def load_nifti_labels(path: Path, options: Intake) -> LabelMap:
    """Read a label map; values that are whole but for rounding are rounded.

    At no time this takes more than twice the memory of the voxels as they are stored.

    Raises:
        DataError: as `load_nifti`, or values that are not whole numbers from 0 to 255.
        MachineError: there is not enough memory.
    """
    with naming(path):
        file = _Read.of(path, options)
        labels, mended = whole(file.payload)
    return LabelMap(labels, file.affine, file.digest, (*file.remarks, *mended))


def load_nifti_grid(path: Path, options: Intake) -> Grid:
    """Where the voxels of a file lie; only the header is read.

    Raises:
        DataError: it cannot be true.
    """
    with naming(path):
        header = read_header(path)
        affine, _ = affine_of(header, options.assume_affine)
    return Grid(header.shape, affine)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What goes wrong with a file in this block is said with its name.

    Raises:
        DataError: for a fault of the file.
        MachineError: there is not enough memory.
    """
    try:
        yield
    except FileFault as fault:
        raise fault.of(path) from fault
    except MemoryError as error:
        shape = read_header(path).shape
        voxels = " x ".join(map(str, shape))
        needed_gb = 4 * math.prod(shape) / 1e9
        raise MachineError(
            f"{voxels} voxels are {needed_gb:.2g} GB as float32, too much for the memory left",
            where=f"{path}: memory",
            fix="free memory, or take a machine that has more",
        ) from error


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
        if payload.gzipped != named_as_gzip(path):
            kind = "gzip" if payload.gzipped else "plain NIfTI"
            named.append(f"name: the content is {kind}, the name says otherwise")
        return cls(payload, affine, tuple(named))

    @property
    def digest(self) -> str:
        return self.payload.digest


def named_as_gzip(path: Path) -> bool:
    """Whether a file is compressed by its name."""
    return path.suffix.lower() == ".gz"


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
            fix = 'intake.nonfinite = "zero" in the recipe sets them to 0'
            raise FileFault("voxels", found, "finite numbers", fix)
        np.copyto(data, 0, where=wrong)
        remarks.append(f"voxels: {found}; set to 0")
        low, high = _span(data)
    if low == high:
        differ = not remarks and values.min() < values.max()
        found = f"all have the value {low:g}" + " as float32" * bool(differ)
        raise FileFault("voxels", found, "an image", "scale or shift the values" * bool(differ))
    return data, remarks


def whole(payload: Payload) -> tuple[LabelArray, list[str]]:
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


def _farthest_from_whole(payload: Payload) -> float:
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


def _span(data: NDArray[Any]) -> tuple[float, float]:
    """Least and largest value as float32; NaN where there is one."""
    return float(np.float32(data.min())), float(np.float32(data.max()))
