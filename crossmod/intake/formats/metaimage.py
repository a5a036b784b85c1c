"""MetaImage headers, as ITK writes and reads them (itk.org/Wiki/ITK/MetaIO/Documentation)."""

from __future__ import annotations

import re

import numpy as np

from crossmod.data.volumes import Affine
from crossmod.intake.formats.header import (
    LPS_TO_RAS,
    Fields,
    ImageHeader,
    TextFormat,
    cut,
    file_name,
    spatial,
    text_of,
)
from crossmod.intake.results import FileFault

MAGIC = re.compile(r"\s*\w+[ \t]*=")

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
"""Types of one size everywhere; that of MET_LONG depends on who wrote it."""

LINE = re.compile(r"\s*(\w+)\s*=(.*)")

FIXED = {
    "ObjectType": ("Image",),
    "NDims": ("3",),
    "BinaryData": ("True",),
    "ElementNumberOfChannels": ("1",),
    "HeaderSize": ("0",),
    "ElementToIntensityFunctionSlope": ("1",),
    "ElementToIntensityFunctionOffset": ("0",),
    "DistanceUnits": ("mm", "?"),
}
"""Fields that can have these values only."""

PLACE, TURN = ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation")


def parse(block: bytes) -> ImageHeader:
    """Check a header.

    Raises:
        FileFault: it is not MetaImage, or a field cannot be true or is not of one 3D image.
    """
    fields = _read(text_of(block, MAGIC, "MetaImage"))
    if "ElementDataFile" not in fields.values:
        raise FileFault("ElementDataFile", "is missing: not MetaImage, or truncated")
    fields.need("NDims")
    for name, allowed in FIXED.items():
        value = fields.values.get(name, allowed[0])
        if value not in allowed and not _same_number(value, allowed[0]):
            raise FileFault(name, cut(value), allowed[0])
    shape = spatial(fields.shape("DimSize", count=3), "DimSize")
    data = fields.need("ElementDataFile")
    local = data.lower() == "local"
    affine, remarks = _affine(fields)
    return ImageHeader(
        shape,
        _kind(fields),
        len(block) if local else 0,
        affine,
        _flag(fields, "CompressedData"),
        "" if local else file_name(data, "ElementDataFile"),
        remarks=remarks,
    )


FORMAT = TextFormat(
    re.compile(rb"\A(?:.*?\n)??[ \t]*ElementDataFile[ \t]*=[^\n]*\n", re.DOTALL),
    parse,
    "TransformMatrix",
)


def _read(lines: list[str]) -> Fields:
    fields: dict[str, str] = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match and match[1] in fields:
            raise FileFault(match[1], "stands twice", "each field once")
        if match:
            fields[match[1]] = match[2].strip()
    return Fields(fields)


def _same_number(value: str, wanted: str) -> bool:
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False


def _flag(fields: Fields, *names: str) -> bool:
    value = fields.text(*names) or "False"
    if value.lower() not in ("true", "false", "1", "0"):
        raise FileFault(names[0], cut(value), "True or False")
    return value.lower() in ("true", "1")


def _affine(fields: Fields) -> tuple[Affine, tuple[str, ...]]:
    """Voxel -> RAS+ mm; the world of MetaImage is LPS."""
    missing = [names[0] for names in (TURN, PLACE) if fields.text(*names) is None]
    if len(missing) == 2:
        raise FileFault(
            "TransformMatrix, Offset",
            "are missing, so the orientation is unknown",
            fix="convert it again from its source",
        )
    spacing = fields.numbers("ElementSpacing", "ElementSize", count=3)
    if not (spacing > 0).all():
        raise FileFault("ElementSpacing", f"{spacing.tolist()} mm", "three lengths above 0")
    turn = np.eye(3) if TURN[0] in missing else fields.numbers(*TURN, count=9).reshape(3, 3)
    place = np.zeros(3) if PLACE[0] in missing else fields.numbers(*PLACE, count=3)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ turn.T * spacing  # each axis is a row of the file
    affine[:3, 3] = LPS_TO_RAS @ place
    return affine, tuple(f"{name}: is missing; using the default of MetaImage" for name in missing)


def _kind(fields: Fields) -> np.dtype[np.generic]:
    name = fields.need("ElementType")
    if name not in TYPES:
        raise FileFault("ElementType", cut(name), "real numbers of a known size")
    big = _flag(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return np.dtype(TYPES[name]).newbyteorder(">" if big else "<")
