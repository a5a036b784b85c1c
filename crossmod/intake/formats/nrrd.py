"""NRRD headers (teem.sourceforge.net/nrrd/format.html), among them 3D Slicer's segmentations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Affine, LabelArray
from crossmod.intake.formats.header import (
    LPS_TO_RAS,
    Fields,
    ImageHeader,
    TextFormat,
    cut,
    file_name,
    finite_numbers,
    spatial,
    text_of,
)
from crossmod.intake.results import FileFault

MAGIC = re.compile(r"NRRD000[1-5]\r?\n")

TYPES = {
    "int8": "i1", "int8_t": "i1", "signed char": "i1",
    "uint8": "u1", "uint8_t": "u1", "uchar": "u1", "unsigned char": "u1",
    "int16": "i2", "int16_t": "i2", "short": "i2", "short int": "i2", "signed short": "i2",
    "signed short int": "i2",
    "uint16": "u2", "uint16_t": "u2", "ushort": "u2", "unsigned short": "u2",
    "unsigned short int": "u2",
    "int32": "i4", "int32_t": "i4", "int": "i4", "signed int": "i4",
    "uint32": "u4", "uint32_t": "u4", "uint": "u4", "unsigned int": "u4",
    "int64": "i8", "int64_t": "i8", "longlong": "i8", "long long": "i8", "long long int": "i8",
    "signed long long": "i8", "signed long long int": "i8",
    "uint64": "u8", "uint64_t": "u8", "ulonglong": "u8", "unsigned long long": "u8",
    "unsigned long long int": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip

SPACES = {
    "left-posterior-superior": LPS_TO_RAS, "lps": LPS_TO_RAS,
    "right-anterior-superior": np.eye(3), "ras": np.eye(3),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0]), "las": np.diag([-1.0, 1.0, 1.0]),
}  # fmt: skip
"""Anatomical spaces -> from their axes to RAS+."""

PACKED = {"raw": False, "gzip": True, "gz": True}

SPELLED = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}
"""Other names of fields."""

AXIS = re.compile(r"none|\([^()]*\)", re.IGNORECASE)

SEGMENT = re.compile(r"Segment\d+_(LabelValue|Layer)")


def parse(block: bytes) -> ImageHeader:
    """Check a header.

    Raises:
        FileFault: it is not NRRD, or a field cannot be true or is not of one 3D image.
    """
    fields, keys = _read(text_of(block, MAGIC, "NRRD"))
    count = fields.need("dimension")
    if count not in ("3", "4"):
        raise FileFault("dimension", cut(count), "3")
    sizes = fields.shape("sizes", count=int(count))
    axes = _axes(fields, int(count))
    extra = [n for n, axis in enumerate(axes) if axis is None]
    layers = _layers(sizes, extra, keys)
    shape = spatial(tuple(n for axis, n in enumerate(sizes) if axis not in extra), "sizes")
    for skip in ("line skip", "byte skip"):
        if fields.values.get(skip, "0") != "0":
            raise FileFault(skip, cut(fields.values[skip]), "0", "save it again as one .nrrd file")
    encoding = fields.need("encoding").lower()
    if encoding not in PACKED:
        raise FileFault("encoding", cut(encoding), "raw or gzip", "save it again with one of them")
    data = fields.text("data file")
    return ImageHeader(
        shape,
        _kind(fields),
        0 if data is not None else len(block),
        _affine(fields, [axis for axis in axes if axis is not None]),
        PACKED[encoding],
        file_name(data, "data file") if data is not None else "",
        layers,
    )


FORMAT = TextFormat(re.compile(rb"\A.*?\n\r?\n", re.DOTALL), parse, "space directions")


def _read(lines: list[str]) -> tuple[Fields, dict[str, str]]:
    """Fields by name, and keys that programs have added."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith("#") or not line.strip():
            continue
        name, colon, value = line.partition(":")
        into = keys if value.startswith("=") else fields
        name = name if into is keys else SPELLED.get(name.lower(), name.lower())
        if not colon or name in into:
            raise FileFault("header", f"the line {cut(line)}", "each field once, as 'field: value'")
        into[name] = value.removeprefix("=").strip()
    return Fields(fields), keys


def _axes(fields: Fields, count: int) -> list[NDArray[np.float64] | None]:
    """The vector of each axis, None for those that are not of space.

    Raises:
        FileFault: some are missing, or not three of them are of space.
    """
    text = fields.text("space directions")
    if text is None:
        raise FileFault(
            "space directions",
            "are missing, so the orientation is unknown",
            fix="convert it again from its source",
        )
    parts = AXIS.findall(text)
    axes = [
        None
        if part.lower() == "none"
        else finite_numbers(part[1:-1].split(","), "space directions", text, 3)
        for part in parts
    ]
    if len(axes) != count or sum(axis is not None for axis in axes) != 3:
        raise FileFault("space directions", cut(text), "three vectors, and none for other axes")
    return axes


def _layers(sizes: tuple[int, ...], extra: list[int], keys: Mapping[str, str]) -> int:
    """How many layers a segmentation has; 1 for any other image.

    Raises:
        FileFault: an image has several values in a voxel, or layers share values.
    """
    count = sizes[extra[0]] if extra else 1
    if count == 1:
        return 1
    if extra != [0] or not any(map(SEGMENT.fullmatch, keys)):
        raise FileFault("sizes", f"{count} values for each voxel", "one 3D image")
    used: dict[str, set[str]] = defaultdict(set)
    for key, value in keys.items():
        if key.endswith("_LabelValue"):
            used[value].add(keys.get(key.replace("_LabelValue", "_Layer"), "0"))
    shared = sorted(value for value, layers in used.items() if len(layers) > 1)
    if shared:
        found = f"segments of different layers share the value {', '.join(shared)}"
        fix = "export it from 3D Slicer as a label map"
        raise FileFault("segments", found, "a value for each segment", fix)
    return count


def merged(voxels: NDArray[np.uint8], header: ImageHeader) -> NDArray[np.uint8]:
    """The layers of a segmentation as one label map, both as bytes ``(N,)``.

    Raises:
        FileFault: segments overlap, which a label map cannot hold.
    """
    layers = voxels.view(header.kind).reshape(header.layers, -1, order="F")
    overlaps = int(np.count_nonzero(np.count_nonzero(layers, axis=0) > 1))
    if overlaps:
        found = f"segments overlap in {overlaps} voxels"
        raise FileFault("segments", found, "each voxel in one segment", "make them exclusive")
    joined: LabelArray = layers.sum(axis=0, dtype=header.kind).view(np.uint8)
    return joined


def _affine(fields: Fields, axes: list[NDArray[np.float64]]) -> Affine:
    space = fields.need("space").lower()
    if space not in SPACES:
        raise FileFault("space", cut(space), "left-posterior-superior, or another of the body")
    units = set(re.findall(r'"([^"]*)"', fields.values.get("space units", "")))
    if units - {"mm", "", "???"}:
        raise FileFault("space units", cut(" ".join(sorted(units))), "mm")
    text = fields.need("space origin")
    affine = np.eye(4)
    affine[:3, :3] = SPACES[space] @ np.column_stack(axes)
    affine[:3, 3] = SPACES[space] @ finite_numbers(
        text.strip("() ").split(","), "space origin", text, 3
    )
    return affine


def _kind(fields: Fields) -> np.dtype[np.generic]:
    name = " ".join(fields.need("type").lower().split())
    if name not in TYPES:
        raise FileFault("type", cut(name), "real numbers")
    kind = np.dtype(TYPES[name])
    if kind.itemsize == 1:
        return kind
    order = fields.need("endian").lower()
    if order not in ("little", "big"):
        raise FileFault("endian", cut(order), "little or big")
    return kind.newbyteorder("<" if order == "little" else ">")
