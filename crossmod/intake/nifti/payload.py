"""The bytes of a NIfTI file in one pass: checksum, length and digest, within a budget."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossmod.intake.nifti.header import LONGEST, Header, parse_header
from crossmod.intake.options import Limits
from crossmod.intake.results import FileFault

READ = 1 << 16
"""Bytes read at once; what is left of them is copied whenever some are unpacked."""

CHUNK = 1 << 20
"""Bytes unpacked at once."""

SLAB = 1 << 16
"""Voxels worked on at once; they stay in the processor's cache, and copies of them are small."""

DENSEST = 1032
"""Bytes that one byte of a deflate stream can stand for at most (zlib, algorithm.txt)."""

GZIP = b"\x1f\x8b"

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Payload:
    """What one NIfTI file holds.

    Attributes:
        header: its header.
        voxels: the bytes of the voxels, uint8 ``(N,)``.
        gzipped: whether the file is compressed, whatever its name says.
        digest: sha256 of the file.
    """

    header: Header
    voxels: NDArray[np.uint8]
    gzipped: bool
    digest: str


def read_payload(path: Path, limits: Limits) -> Payload:
    """Read a file once; nothing is allocated before the header and the file's size allow it.

    Raises:
        FileFault: it cannot be read, is not NIfTI, cut, damaged, longer than its header says, or
            too large.
    """
    whole = hashlib.sha256()
    with _opened(path) as file:
        gzipped, blocks = _blocks(file, whole.update)
        start = _first(blocks)
        header = parse_header(start[:LONGEST])
        _weigh(header, os.fstat(file.fileno()).st_size, gzipped, limits)
        voxels = _fill(header, start, blocks)
    return Payload(header, voxels, gzipped, whole.hexdigest())


def read_header(path: Path) -> Header:
    """Read and check the header alone.

    Raises:
        FileFault: it cannot be read, is not NIfTI, or has a field that cannot be true.
    """
    with _opened(path) as file:
        _, blocks = _blocks(file, lambda block: None)
        return parse_header(_first(blocks)[:LONGEST])


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise FileFault("file", "is a folder, a pipe or a device", "a file")
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise FileFault("file", f"cannot be read: {error.strerror}") from error


def _blocks(file: BinaryIO, note: Callable[[bytes], None]) -> tuple[bool, Iterator[bytes]]:
    """Whether a file is compressed, and its content."""
    gzipped = file.read(2) == GZIP
    file.seek(0)
    raw = _raw(file, note)
    return gzipped, _unpacked(raw) if gzipped else raw


def _first(blocks: Iterator[bytes]) -> bytes:
    """At least as many bytes as a header has, or all there are."""
    start = b""
    try:
        while len(start) < LONGEST and (block := next(blocks, None)) is not None:
            start += block
    except EOFError:
        raise FileFault("gzip", f"truncated: it ends after {len(start)} unpacked bytes") from None
    return start


def values_of(payload: Payload) -> NDArray[Any]:
    """The voxels ``(I, J, K)``: as they are stored, or float32 if the header scales them."""
    stored = payload.voxels.view(payload.header.kind)
    if payload.header.is_scaled:
        stored = joined(slabs_of(payload), np.empty(stored.size, np.float32))
    return stored.reshape(payload.header.shape, order="F")


def slabs_of(payload: Payload) -> Iterator[NDArray[Any]]:
    """The same voxels in the order of the file, at most `SLAB` at a time."""
    header = payload.header
    stored = slabs(payload.voxels.view(header.kind))
    return _scaled(stored, *header.scaling) if header.is_scaled else stored


def slabs(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The values in the order in which they lie in memory, at most `SLAB` at a time."""
    flat = values.ravel(order="K")
    return (flat[at : at + SLAB] for at in range(0, flat.size, SLAB))


def joined(parts: Iterable[NDArray[Any]], into: NDArray[Number]) -> NDArray[Number]:
    """Slabs put into an array ``(N,)``, cast to its type."""
    for number, part in enumerate(parts):
        into[number * SLAB : (number + 1) * SLAB] = part
    return into


def _scaled(
    stored: Iterable[NDArray[Any]], slope: float, inter: float
) -> Iterator[NDArray[np.float32]]:
    from nibabel.volumeutils import apply_read_scaling

    for part in stored:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found later
            scaled = apply_read_scaling(part, np.float64(slope), np.float64(inter))
            single = scaled.astype(np.float32, copy=False)
        yield single


def _weigh(header: Header, size: int, gzipped: bool, limits: Limits) -> None:
    """Whether a file of this size can hold what the header says."""
    count, needed = header.voxel_bytes // header.kind.itemsize, header.offset + header.voxel_bytes
    shape = " x ".join(map(str, header.shape))
    if count > limits.max_voxels:
        raise FileFault(
            "dim",
            f"{shape} = {count} voxels",
            f"limits.max_voxels = {limits.max_voxels}",
            "if that is right, raise intake.limits.max_voxels in the recipe",
        )
    if not gzipped and size < needed:
        raise FileFault("size", f"truncated: {size} of {needed} bytes", f"{shape} voxels")
    if gzipped and size * DENSEST < needed:
        found = f"{shape} voxels, more than a gzip file of {size} bytes can hold"
        raise FileFault("dim", found)


def _fill(header: Header, start: bytes, blocks: Iterator[bytes]) -> NDArray[np.uint8]:
    """The bytes after the offset, exactly as many as the header says."""
    needed = header.offset + header.voxel_bytes
    voxels = np.empty(header.voxel_bytes, np.uint8)  # pages are taken as they are written
    done = -header.offset
    with suppress(EOFError):
        for block in chain([start], blocks):
            part = block[-done:] if done < 0 else block
            at = max(done, 0)
            if at + len(part) > voxels.size:
                raise FileFault("size", f"bytes follow after the {needed} the header asks for")
            voxels[at : at + len(part)] = np.frombuffer(part, np.uint8)
            done += len(block)
        if done == voxels.size:
            return voxels
    if done == voxels.size:
        raise FileFault("gzip", "truncated: the checksum at the end is missing")
    raise FileFault("size", f"truncated: {max(done + header.offset, 0)} of {needed} bytes")


def _raw(file: BinaryIO, note: Callable[[bytes], None]) -> Iterator[bytes]:
    while block := file.read(READ):
        note(block)
        yield block


def _unpacked(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack a gzip stream, which zlib holds against its checksum and length.

    Raises:
        FileFault: the stream is damaged, or something else follows it.
        EOFError: it ends too early.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        for block in raw:
            while block:
                if stream.eof:
                    block = block.lstrip(b"\0")  # gzip pads with zeros
                    if not block:
                        break
                    stream = zlib.decompressobj(wbits=31)  # another member
                yield stream.decompress(block, CHUNK)
                block = stream.unconsumed_tail or stream.unused_data
        while not stream.eof and (rest := stream.decompress(b"", CHUNK)):
            yield rest
    except zlib.error as error:
        raise _damaged(error) from error
    if not stream.eof:
        raise EOFError


def _damaged(error: zlib.error) -> FileFault:
    text = str(error)
    if "incorrect data check" in text:
        found = "CRC differs: the content is damaged"
    elif "incorrect length check" in text:
        found = "length differs: the content is damaged"
    else:
        found = f"the stream is damaged ({text.rpartition(': ')[2]})"
    return FileFault("gzip", found, fix="copy the file again from its source")
