"""One NIfTI file: header, bytes and geometry, checked and compared with what nibabel reads."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np

from crossmod.data.form import Form
from crossmod.files.packed import named_as_gzip
from crossmod.intake.image import ImageFile
from crossmod.intake.nifti.geometry import affine_of
from crossmod.intake.nifti.header import LONGEST, Header, parse_header
from crossmod.intake.options import Intake, Limits
from crossmod.intake.payload import Payload, blocks_of, fill, first_bytes, opened, weigh
from crossmod.intake.results import FileFault


def read_payload(path: Path, limits: Limits) -> Payload[Header]:
    """Read a file once; nothing is allocated before the header and the file's size allow it.

    Raises:
        FileFault: it cannot be read, is not NIfTI, truncated, damaged, longer than its header says,
            or too large.
    """
    whole = hashlib.sha256()
    with opened(path) as file:
        gzipped, blocks = blocks_of(file, whole.update)
        start = first_bytes(blocks, LONGEST)
        header = parse_header(start[:LONGEST])
        weigh(header, header.offset, os.fstat(file.fileno()).st_size, gzipped, limits)
        voxels = fill(header.voxel_bytes, header.offset, chain([start], blocks))
    return Payload(header, voxels, gzipped, whole.hexdigest())


def read_header(path: Path) -> Header:
    """Read and check the header alone.

    Raises:
        FileFault: it cannot be read, is not NIfTI, or has a field that cannot be true.
    """
    with opened(path) as file:
        _, blocks = blocks_of(file)
        return parse_header(first_bytes(blocks, LONGEST)[:LONGEST])


def read_nifti(path: Path, options: Intake) -> ImageFile:
    """Read a file whose header and bytes can be trusted.

    Raises:
        FileFault: it is damaged, too large, or has no usable geometry.
    """
    payload = read_payload(path, options.limits)
    affine, remarks = affine_of(payload.header, options.assume_affine)
    _compare_with_reader(payload.header)
    named = [*payload.header.remarks, *remarks]
    if payload.gzipped != named_as_gzip(path):
        kind = "gzip" if payload.gzipped else "plain NIfTI"
        named.append(f"name: does not match the content, which is {kind}")
    return ImageFile(payload, affine, tuple(named), Form.of(payload.header.raw))


def _compare_with_reader(header: Header) -> None:
    """Compare what was parsed with what nibabel reads from the same header.

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
