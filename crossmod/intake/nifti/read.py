"""One NIfTI file: header, bytes and geometry, checked and compared with what nibabel reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from crossmod.data.volumes import Affine
from crossmod.errors import MachineError
from crossmod.intake.nifti.geometry import affine_of
from crossmod.intake.nifti.header import Header
from crossmod.intake.nifti.payload import Payload, read_header, read_payload
from crossmod.intake.options import Intake
from crossmod.intake.results import FileFault


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """A file whose header and bytes have been checked.

    Attributes:
        payload: header and voxels.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        remarks: what was odd and could be mended.
    """

    payload: Payload
    affine: Affine
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, options: Intake) -> NiftiFile:
        """Read a file.

        Raises:
            FileFault: it is damaged, too large, or has no usable geometry.
        """
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
        """The sha256 of the file."""
        return self.payload.digest


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
