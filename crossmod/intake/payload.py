"""The bytes of an image file in one pass: checksum, length and digest, within a budget."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossmod.files.packed import DAMAGED, Unpacker, unpacker
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

GZIP_BITS, ANY_BITS = 31, 47
"""How an unpacker is told that a stream is gzip, or either gzip or zlib."""

Number = TypeVar("Number", bound=np.generic)


class Layout(Protocol):
    """What the header of any format says of the voxels that follow it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels ``(I, J, K)``; the first index runs fastest in the file."""

    @property
    def kind(self) -> np.dtype[Any]:
        """Type of the voxels as stored, with byte order."""

    @property
    def voxel_bytes(self) -> int:
        """How many bytes the voxels take once they are unpacked."""

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept of the voxels; 1 and 0 where they are the values."""

    @property
    def is_scaled(self) -> bool:
        """Whether the voxels are other numbers than those stored."""


LayoutT = TypeVar("LayoutT", bound=Layout)


@dataclass(frozen=True, eq=False)
class Payload(Generic[LayoutT]):
    """What one image file holds.

    Attributes:
        header: its header.
        voxels: the bytes of the voxels, uint8 ``(N,)``.
        gzipped: whether the whole file is compressed, whatever its name says.
        digest: sha256 of the file.
    """

    header: LayoutT
    voxels: NDArray[np.uint8]
    gzipped: bool
    digest: str


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file without a buffer, but no pipe or device.

    Raises:
        FileFault: it is one, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise FileFault("file", "is a folder, a pipe or a device", "a file")
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise FileFault("file", f"cannot be read: {error.strerror}") from error


def blocks_of(
    file: BinaryIO, note: Callable[[bytes], None] = lambda block: None
) -> tuple[bool, Iterator[bytes]]:
    """Whether a file is compressed, and its content."""
    gzipped = file.read(2) == GZIP
    raw = raw_blocks(file, note)
    return gzipped, unpacked(raw, lambda: raw_blocks(file)) if gzipped else raw


def first_bytes(blocks: Iterator[bytes], enough: int) -> bytes:
    """At least this number of bytes, or all there are.

    Raises:
        FileFault: a compressed file ends early.
    """
    start = b""
    try:
        while len(start) < enough and (block := next(blocks, None)) is not None:
            start += block
    except EOFError:
        raise FileFault("gzip", f"truncated: it ends after {len(start)} unpacked bytes") from None
    return start


def values_of(payload: Payload[Any]) -> NDArray[Any]:
    """The voxels ``(I, J, K)``: as they are stored, or float32 if the header scales them."""
    stored: NDArray[Any] = payload.voxels.view(payload.header.kind)
    if payload.header.is_scaled:
        stored = joined(slabs_of(payload), np.empty(stored.size, np.float32))
    return stored.reshape(payload.header.shape, order="F")


def slabs_of(payload: Payload[Any]) -> Iterator[NDArray[Any]]:
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


def weigh(layout: Layout, skipped: int, size: int, packed: bool, limits: Limits) -> None:
    """Refuse what a file of this size cannot hold, before anything is allocated.

    Args:
        layout: what the header says.
        skipped: bytes before the voxels.
        size: bytes of the file that holds the voxels.
        packed: whether they are compressed there.
        limits: what a file may take.

    Raises:
        FileFault: too many voxels, or more than the file can hold.
    """
    count, needed = layout.voxel_bytes // layout.kind.itemsize, skipped + layout.voxel_bytes
    shape = " x ".join(map(str, layout.shape))
    if count > limits.max_voxels:
        raise FileFault(
            "dim",
            f"{shape} = {count} voxels" if count == prod(layout.shape) else f"{count} voxels",
            f"limits.max_voxels = {limits.max_voxels}",
            "if that is right, raise intake.limits.max_voxels in the recipe",
        )
    if not packed and size < needed:
        raise FileFault("size", f"truncated: {size} of {needed} bytes", f"{shape} voxels")
    if packed and size * DENSEST < needed:
        found = f"{shape} voxels, more than a gzip file of {size} bytes can hold"
        raise FileFault("dim", found)


def fill(count: int, skipped: int, blocks: Iterable[bytes], tail: int = 0) -> NDArray[np.uint8]:
    """Exactly as many bytes ``(count,)`` as the header says, read to the end of the stream.

    Args:
        count: bytes of the voxels.
        skipped: bytes before them.
        blocks: the stream.
        tail: how many bytes may follow them.

    Raises:
        FileFault: the stream is shorter or longer, or damaged.
    """
    needed = skipped + count
    voxels = np.empty(count, np.uint8)  # pages are taken as they are written
    done = -skipped
    with suppress(EOFError):
        for block in blocks:
            part = block[-done:] if done < 0 else block
            at = max(done, 0)
            if at + len(part) > count + tail:
                raise FileFault(
                    "size", f"the file continues after the {needed} bytes that the header declares"
                )
            part = part[: max(count - at, 0)]
            voxels[at : at + len(part)] = np.frombuffer(part, np.uint8)
            done += len(block)
        if done >= count:
            return voxels
    if done >= count:
        raise FileFault("gzip", "truncated: the checksum at the end is missing")
    raise FileFault("size", f"truncated: {max(done + skipped, 0)} of {needed} bytes")


def raw_blocks(
    file: BinaryIO, note: Callable[[bytes], None] = lambda block: None, start: int = 0
) -> Iterator[bytes]:
    """The content of a file as it is, from a byte on; each block is noted."""
    file.seek(start)
    while block := file.read(READ):
        note(block)
        yield block


def unpacked(
    raw: Iterable[bytes], again: Callable[[], Iterable[bytes]], wbits: int = GZIP_BITS
) -> Iterator[bytes]:
    """Unpack a gzip or zlib stream, whose checksum and length are verified.

    Args:
        raw: the stream.
        again: returns it from its beginning: where isal finds it damaged, zlib says what is wrong,
            in the same words as without isal.
        wbits: kind of the stream, as for `zlib.decompressobj`.

    Raises:
        FileFault: the stream is damaged, or something else follows it.
        EOFError: it ends too early.
    """
    try:
        yield from _contents(raw, lambda: unpacker(wbits))
    except DAMAGED as error:
        raise _judged(again(), wbits, error) from error


def _contents(raw: Iterable[bytes], begin: Callable[[], Unpacker]) -> Iterator[bytes]:
    """What the streams one after the other in a file hold."""
    stream = begin()
    for block in raw:
        while block:
            if stream.eof:
                block = block.lstrip(b"\0")  # gzip pads with zeros
                if not block:
                    break
                stream = begin()  # another member
            yield stream.decompress(block, CHUNK)
            block = stream.unconsumed_tail or stream.unused_data
    while not stream.eof and (rest := stream.decompress(b"", CHUNK)):
        yield rest
    if not stream.eof:
        raise EOFError


def _judged(raw: Iterable[bytes], wbits: int, error: Exception) -> FileFault | EOFError:
    """What zlib says of a damaged stream; if it finds nothing, what was said before."""
    text = str(error)
    try:
        for _ in _contents(raw, lambda: zlib.decompressobj(wbits=wbits)):
            pass
    except EOFError as end:
        return end
    except zlib.error as found:
        text = str(found)
    if "incorrect data check" in text:
        what = "CRC differs: the content is damaged"
    elif "incorrect length check" in text:
        what = "length differs: the content is damaged"
    else:
        what = f"the stream is damaged ({text.rpartition(': ')[2]})"
    return FileFault("gzip", what, fix="copy the file again from its source")
