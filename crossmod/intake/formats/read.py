"""Read an image file of any format; the ending of its name says which."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from crossmod.data.folder import ending_of
from crossmod.data.grids import Grid
from crossmod.data.volumes import Affine
from crossmod.errors import MachineError
from crossmod.files.digests import digest_of, digest_of_bytes
from crossmod.intake.formats import metaimage, mgh, nrrd
from crossmod.intake.formats.header import MAX_HEADER, ImageHeader, TextFormat
from crossmod.intake.image import ImageFile
from crossmod.intake.nifti.geometry import affine_of, require_place, straightened
from crossmod.intake.nifti.read import read_header as read_nifti_header
from crossmod.intake.nifti.read import read_nifti
from crossmod.intake.options import Intake, Limits
from crossmod.intake.payload import (
    ANY_BITS,
    Payload,
    blocks_of,
    fill,
    first_bytes,
    opened,
    raw_blocks,
    unpacked,
    weigh,
)
from crossmod.intake.results import FileFault

TEXT = {
    ".seg.nrrd": nrrd.FORMAT,
    ".nrrd": nrrd.FORMAT,
    ".nhdr": nrrd.FORMAT,
    ".mha": metaimage.FORMAT,
    ".mhd": metaimage.FORMAT,
}
MGH = (".mgh", ".mgz", ".mgh.gz")


def read_file(path: Path, options: Intake) -> ImageFile:
    """Read a file whose header and bytes can be trusted.

    Raises:
        FileFault: it cannot be read, is damaged, too large, not one 3D image of real numbers, or
            has no usable geometry.
    """
    ending = ending_of(path.name)
    if ending in TEXT:
        payload = _read_text(path, TEXT[ending], options.limits)
        return _placed(payload, TEXT[ending].axes)
    if ending in MGH:
        return _placed(_read_mgh(path, options.limits), "Mdc")
    return read_nifti(path, options)


def read_grid(path: Path, options: Intake) -> Grid:
    """Where the voxels of a file lie, from its header alone.

    Raises:
        FileFault: as `read_file`, as far as the header tells.
    """
    ending = ending_of(path.name)
    if ending not in TEXT and ending not in MGH:
        nifti = read_nifti_header(path)
        return Grid(nifti.shape, affine_of(nifti, options.assume_affine)[0])
    header = _text_header(path, TEXT[ending])[0] if ending in TEXT else _mgh_header(path)
    return Grid(header.shape, _place_of(header, "affine")[0])


def digest_of_image(path: Path) -> str:
    """The sha256 of a file or folder; of a header whose voxels lie beside it, of both files.

    Raises:
        OSError: it cannot be read.
    """
    ending = ending_of(path.name)
    if ending in TEXT and path.is_file():
        try:
            header, _ = _text_header(path, TEXT[ending])
            if header.data:
                return _joined(digest_of(path), digest_of(_beside(path, header.data)))
        except FileFault:  # reading it says what is wrong
            pass
    return digest_of(path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What goes wrong with a file in this block is said with its name.

    Raises:
        DataError: for a fault of the file.
        MachineError: memory is short.
    """
    try:
        yield
    except FileFault as fault:
        raise fault.of(path) from fault
    except MemoryError as error:
        shape = read_grid(path, Intake(assume_affine=True)).shape
        voxels = " x ".join(map(str, shape))
        needed_gb = 4 * math.prod(shape) / 1e9
        raise MachineError(
            f"{voxels} voxels are {needed_gb:.2g} GB as float32, more than the memory left",
            where=f"{path}: memory",
            fix="free memory, or use a machine with more",
        ) from error


def _read_text(path: Path, form: TextFormat, limits: Limits) -> Payload[ImageHeader]:
    """Read a header and its voxels once; nothing is allocated before both allow it."""
    header, start = _text_header(path, form)
    digests = [hashlib.sha256()]
    if header.data:
        digests[0].update(start)
        digests.append(hashlib.sha256())
    source = _beside(path, header.data) if header.data else path
    with opened(source) as file:
        size = os.fstat(file.fileno()).st_size
        weigh(header, header.offset, size, header.packed, limits)
        blocks = raw_blocks(file, digests[-1].update)
        if header.packed:
            start = first_bytes(blocks, header.offset)
            packed = chain([start[header.offset :]], blocks)
            content = unpacked(packed, lambda: raw_blocks(file, start=header.offset), ANY_BITS)
            voxels = fill(header.voxel_bytes, 0, content)
        else:
            voxels = fill(header.voxel_bytes, header.offset, blocks)
    if header.layers > 1:
        voxels, header = nrrd.merged(voxels, header), replace(header, layers=1)
    parts = [one.hexdigest() for one in digests]
    return Payload(header, voxels, False, _joined(*parts) if header.data else parts[0])


def _text_header(path: Path, form: TextFormat) -> tuple[ImageHeader, bytes]:
    """The header of a file, and its bytes."""
    with opened(path) as file:
        start = b""
        for block in raw_blocks(file):
            start += block
            if form.end.match(start) or len(start) > MAX_HEADER:
                break
    ended = form.end.match(start)
    header = form.parse(ended[0] if ended else start[:MAX_HEADER])
    if not header.data:
        if not ended:
            raise FileFault("header", "does not end: the file is truncated, or not what it seems")
        return header, ended[0]
    if ended and len(start) > ended.end() and start[ended.end() :].strip():
        raise FileFault("header", "bytes follow a header whose voxels lie in another file")
    return header, start


def _beside(path: Path, name: str) -> Path:
    """The file that holds the voxels of a header.

    Raises:
        FileFault: it is a link to another folder.
    """
    file = path.parent / name
    try:
        inside = file.resolve().is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError) as error:
        raise FileFault("voxels", f"{name} cannot be found: {error}") from error
    if not inside:
        raise FileFault("voxels", f"{name} is a link to another folder", "a file beside the header")
    if not file.exists():
        raise FileFault("voxels", f"{name} does not exist", "a file beside the header")
    return file


def _read_mgh(path: Path, limits: Limits) -> Payload[ImageHeader]:
    whole = hashlib.sha256()
    with opened(path) as file:
        gzipped, blocks = blocks_of(file, whole.update)
        start = first_bytes(blocks, mgh.BYTES)
        header = mgh.parse(start)
        weigh(header, header.offset, os.fstat(file.fileno()).st_size, gzipped, limits)
        voxels = fill(header.voxel_bytes, header.offset, chain([start], blocks), header.tail)
    return Payload(header, voxels, gzipped, whole.hexdigest())


def _mgh_header(path: Path) -> ImageHeader:
    with opened(path) as file:
        _, blocks = blocks_of(file)
        return mgh.parse(first_bytes(blocks, mgh.BYTES))


def _placed(payload: Payload[ImageHeader], axes: str) -> ImageFile:
    affine, remarks = _place_of(payload.header, axes)
    return ImageFile(payload, affine, (*payload.header.remarks, *remarks))


def _place_of(header: ImageHeader, axes: str) -> tuple[Affine, list[str]]:
    with np.errstate(all="ignore"):  # what overflows is refused
        affine, remarks = straightened(header.affine, axes)
        require_place(affine, header.shape)
    return affine, remarks


def _joined(*digests: str) -> str:
    return digest_of_bytes("\n".join(digests))
