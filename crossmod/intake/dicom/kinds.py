"""What kind of image a frame is: tags that slices share, or by which images of a place differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from crossmod.intake.dicom.tags import first_item, tag_name, unusable, value_of

SHARED = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "EchoTime", "EchoNumbers",
          "TemporalPositionIdentifier", "DiffusionBValue")  # fmt: skip
"""Tags that are the same in all files of a stack."""

SHARED_BY_FRAMES = {
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
}
"""Tags that are the same in all functional groups of a stack -> their sequence."""

FREE = ("AcquisitionNumber", "TriggerTime", "ImageType", "AcquisitionTime")
"""Tags that may tell images of one place apart and that differ from slice to slice besides."""

FREE_DIMENSIONS = ("StackID", "InStackPositionNumber", "ImagePositionPatient",
                   "FrameAcquisitionNumber", "FrameAcquisitionDateTime",
                   "FrameReferenceDateTime")  # fmt: skip
"""Dimensions of an enhanced file that number places and times."""

JITTER = 0.01
"""Share by which numbers may differ; some scanners round times of echoes slice by slice."""

Marks = tuple[tuple[str, str], ...]
"""Tag -> a value nobody is shown."""


def kind_of(dataset: Any, groups: list[Any] | None, file: str) -> Marks:
    """What a frame has in common with all other slices of its stack.

    Raises:
        DataError: a value cannot be decoded.
    """
    return tuple(_kind(dataset, groups or [], file))


def _kind(dataset: Any, groups: list[Any], file: str) -> Iterator[tuple[str, str]]:
    for keyword in SHARED:
        yield tag_name(keyword), str(value_of(dataset, keyword, file))
    # The third value says whether it shows a magnitude or a phase.
    yield tag_name("ImageType"), "".join(image_type(dataset, file)[2:3])
    for keyword, macro in SHARED_BY_FRAMES.items() if groups else ():
        value = value_of(first_item(groups, macro, file), keyword, file)
        yield tag_name(keyword), str(value)
    content = first_item(groups, "FrameContentSequence", file)
    values = value_of(content, "DimensionIndexValues", file) or ()
    values = [values] if isinstance(values, int) else values
    dimensions = value_of(dataset, "DimensionIndexSequence", file) or ()
    for dimension, value in zip(dimensions, values, strict=False):
        keyword = _pointed(dimension, file)
        if keyword not in FREE_DIMENSIONS:
            yield keyword, str(value)


def image_type(dataset: Any, file: str) -> list[str]:
    """The values of ImageType.

    Raises:
        DataError: they cannot be decoded.
    """
    value = value_of(dataset, "ImageType", file) or []
    return [value] if isinstance(value, str) else list(map(str, value))


def marks_of(dataset: Any, file: str) -> Marks:
    """What may tell a frame from others of its place, and is no matter between places.

    Raises:
        DataError: a value cannot be decoded.
    """
    return tuple((tag_name(keyword), str(value_of(dataset, keyword, file))) for keyword in FREE)


def differing(one: Marks, other: Marks) -> list[str]:
    """The tags whose values are not the same.

    Example:
        >>> differing((("EchoTime", "80.1"),), (("EchoTime", "80.2"),))  # rounded by the scanner
        []
        >>> differing((("EchoTime", "80"),), (("EchoTime", "120"),))
        ['EchoTime']
    """
    known = dict(other)
    return [tag for tag, value in dict(one).items() if not _alike(value, known.get(tag, ""))]


def _alike(one: str, other: str) -> bool:
    try:
        return one == other or math.isclose(float(one), float(other), rel_tol=JITTER)
    except ValueError:
        return False


def _pointed(dimension: Any, file: str) -> str:
    """What a dimension is, by its tag."""
    from pydicom.datadict import keyword_for_tag
    from pydicom.tag import Tag

    pointer = value_of(dimension, "DimensionIndexPointer", file)
    try:
        tag = Tag(pointer)
        keyword = str(keyword_for_tag(tag))
    except (TypeError, ValueError, OverflowError):
        raise unusable("DimensionIndexPointer", file) from None
    if keyword in FREE_DIMENSIONS:
        return keyword
    return tag_name(keyword) if keyword else f"private dimension {tag}"
