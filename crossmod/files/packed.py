"""Compressed files: by isal, several times as fast as zlib, where it is installed.

What one of the two has written, the other reads; the compressed bytes of the same content differ.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

try:
    from isal import igzip, isal_zlib
except ImportError:  # some processors have no build of it
    igzip = isal_zlib = None  # type: ignore[assignment]

CHUNK = 1 << 18
"""Bytes packed at once; what they are packed into is held in memory."""

ISAL_LEVEL, ZLIB_LEVEL = 2, 1
"""How hard isal (0 to 3) and zlib (1 to 9) try; isal's files are the smaller ones."""

DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    *([isal_zlib.error] if isal_zlib else ()),
)
"""What unpacking a stream raises that ends early or is damaged."""


class Unpacker(Protocol):
    """Unpacks a stream piece by piece, as the objects of `zlib.decompressobj` do."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended, and its checksum was right."""

    @property
    def unconsumed_tail(self) -> bytes:
        """What was not unpacked for lack of room."""

    @property
    def unused_data(self) -> bytes:
        """What follows the stream."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Up to this many bytes of the content; the next call continues."""


def unpacker(wbits: int) -> Unpacker:
    """A new unpacker, of the fastest library there is.

    Args:
        wbits: kind of the stream, as for `zlib.decompressobj`.
    """
    return cast(Unpacker, (isal_zlib or zlib).decompressobj(wbits=wbits))


def named_as_gzip(path: Path) -> bool:
    """Whether a file is compressed by its name."""
    return path.suffix.lower() == ".gz"


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """A new file, compressed if its name says so, the same bytes at any time.

    Raises:
        OSError: the disk is full, for instance.
    """
    with path.open("wb") as file:
        if not named_as_gzip(path):
            yield file
            return
        with _packing(file) as packed:
            yield packed


def _packing(file: BinaryIO) -> Any:
    if igzip:
        return igzip.IGzipFile("", "wb", ISAL_LEVEL, file, 0)
    return GzipFile("", "wb", ZLIB_LEVEL, file, 0)
