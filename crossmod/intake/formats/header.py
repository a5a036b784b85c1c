"""What the headers of NRRD, MetaImage and MGH have in common, and how their fields are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Affine
from crossmod.intake.results import FileFault

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

MAX_HEADER = 1 << 20
"""Bytes of a text header; beyond it no header is expected to end."""


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a header says, checked field by field.

    Attributes:
        shape: voxels ``(I, J, K)``.
        kind: type of the voxels as stored, with byte order.
        offset: byte at which the voxels begin; 0 where they lie in another file.
        affine: ``(4, 4)`` voxel -> RAS+ mm, as written.
        packed: whether the voxels are compressed behind a plain header.
        data: the file beside the header that holds the voxels; empty where they follow it.
        layers: of a segmentation, arrays that run fastest in the file and become one label map.
        tail: how many bytes may follow the voxels.
        remarks: what was odd and could be mended.
    """

    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    offset: int
    affine: Affine
    packed: bool = False
    data: str = ""
    layers: int = 1
    tail: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def voxel_bytes(self) -> int:
        """How many bytes the voxels take once they are unpacked."""
        return math.prod(self.shape) * self.layers * self.kind.itemsize

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept: voxels are stored as they are."""
        return 1.0, 0.0

    @property
    def is_scaled(self) -> bool:
        """Whether the voxels are other numbers than those stored."""
        return False


@dataclass(frozen=True)
class TextFormat:
    """A format with a text header.

    Attributes:
        end: matches up to the end of a header that is followed by voxels.
        parse: reads a whole header; raises FileFault.
        axes: the field that says how the axes lie.
    """

    end: re.Pattern[bytes]
    parse: Callable[[bytes], ImageHeader]
    axes: str


@dataclass(frozen=True)
class Fields:
    """The fields of a text header by name; each can be there once."""

    values: Mapping[str, str]

    def text(self, *names: str) -> str | None:
        """The value of the first of some names that is there."""
        return next((self.values[name] for name in names if name in self.values), None)

    def need(self, *names: str) -> str:
        """The same, of a field that must be there.

        Raises:
            FileFault: it is missing.
        """
        found = self.text(*names)
        if found is None:
            raise FileFault(names[0], "is missing")
        return found

    def numbers(self, *names: str, count: int) -> NDArray[np.float64]:
        """The finite numbers of a field.

        Raises:
            FileFault: it is missing, or has other numbers.
        """
        text = self.need(*names)
        return finite_numbers(text.split(), names[0], text, count)

    def shape(self, *names: str, count: int) -> tuple[int, ...]:
        """Sizes of axes.

        Raises:
            FileFault: they are not whole numbers from 1.
        """
        text = self.need(*names)
        parts = text.split()
        if len(parts) != count or not all(re.fullmatch("[1-9][0-9]{0,9}", one) for one in parts):
            raise FileFault(names[0], cut(text), f"{count} whole numbers from 1")
        return tuple(map(int, parts))


def finite_numbers(parts: list[str], field: str, text: str, count: int) -> NDArray[np.float64]:
    """Finite numbers from their texts.

    Raises:
        FileFault: there are more or fewer, or some are not finite numbers.
    """
    try:
        found = np.array([float(one) for one in parts])
    except ValueError:
        found = np.array([])
    if found.shape != (count,) or not np.isfinite(found).all():
        raise FileFault(field, cut(text), f"{count} finite numbers")
    return found


def spatial(sizes: tuple[int, ...], field: str) -> tuple[int, int, int]:
    """The size of one 3D image.

    Raises:
        FileFault: it is flat.
    """
    if len(sizes) != 3 or min(sizes) < 2:
        raise FileFault(field, " x ".join(map(str, sizes)) + " voxels", "one 3D image")
    return sizes[0], sizes[1], sizes[2]


def text_of(block: bytes, magic: re.Pattern[str], name: str) -> list[str]:
    """The lines of a text header that begins as it should.

    Raises:
        FileFault: it begins otherwise.
    """
    text = block.decode("utf-8", "replace")
    if not magic.match(text):
        raise not_format(block, name)
    return text.splitlines()


def not_format(block: bytes, name: str) -> FileFault:
    """A file that is not of the format that its name promises."""
    shown = "".join(c if c.isprintable() and ord(c) < 128 else "." for c in
                    block[:16].decode("latin-1"))  # fmt: skip
    found = f"not {name}; the file begins with '{shown}'" if block else "the file is empty"
    return FileFault("header", found, f"a file of the format that its name promises, {name}")


def cut(text: str) -> str:
    """A value as messages show it."""
    plain = ascii(text)
    return plain if len(plain) <= 60 else f"{plain[:57]}..."


def file_name(text: str, field: str) -> str:
    """The name of a file beside the header.

    Raises:
        FileFault: it leads elsewhere, or stands for several files.
    """
    name = text.strip().removeprefix("./")
    if name.upper().startswith("LIST") or "%" in name:
        raise FileFault(field, cut(text), "one file that holds all voxels")
    if not name or name in (".", "..") or re.search(r"[/\\:\0]", name):
        fix = "move the voxels beside the header, or join both into one file"
        raise FileFault(field, cut(text), "the name of a file beside the header", fix)
    return name
