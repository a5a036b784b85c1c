"""Small files that unpack to large ones, made in no time: what holds zeros is packed once."""

from __future__ import annotations

import struct
import zlib

BLOCK = 1 << 20


def deflated(head: bytes, zeros: int) -> bytes:
    """A stream of DEFLATE: some bytes, then zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.compress(bytes(zeros % BLOCK)) + packer.flush()
    return begin + block * (zeros // BLOCK) + end


def gzipped(head: bytes, zeros: int) -> bytes:
    """The same as a file of gzip."""
    check = zlib.crc32(head)
    for _ in range(zeros // BLOCK):
        check = zlib.crc32(bytes(BLOCK), check)
    check = zlib.crc32(bytes(zeros % BLOCK), check)
    tail = struct.pack("<II", check, (len(head) + zeros) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + deflated(head, zeros) + tail
