"""Each frame of a file: where it lies, what its voxel values mean, and what kind of image it is.

The kind is told by tags that slices share; others may tell images of one place apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crossmod.errors import DataError
from crossmod.intake.dicom.tags import first_item, numbers, tag_name, unusable, value_of, whole

GRAY = ("MONOCHROME1", "MONOCHROME2")

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


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes:
        file: where it is, relative to the folder.
        index: which frame of the file.
        position_mm: center of the first voxel, LPS.
        directions: unit vectors along a row and along a column, LPS.
        spacing_mm: distance of voxels along a row and along a column.
        size: voxels along a row and along a column.
        slope, intercept: from stored values to those meant.
        inverted: whether viewers show high values dark.
        kind: what it has in common with all slices of its stack.
        marks: what else may tell it from other frames of its place.
    """

    file: str
    index: int
    position_mm: tuple[float, ...]
    directions: tuple[float, ...]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    slope: float
    intercept: float
    inverted: bool
    kind: Marks
    marks: Marks


def frames_of(dataset: Any, file: str) -> list[Frame]:
    """The frames of a file, in its order.

    Raises:
        DataError: it has colored voxels, is a mosaic, or does not say where a frame lies or what
            its values mean.
    """
    _check_gray(dataset, file)
    if "MOSAIC" in image_type(dataset, file):
        what = f"is a mosaic of slices, by {tag_name('ImageType')}"
        raise DataError(what, where=file, allowed="a file or a frame for each slice")
    size = (whole(dataset, "Columns", file), whole(dataset, "Rows", file))
    count = 1
    if value_of(dataset, "NumberOfFrames", file) is not None:
        count = whole(dataset, "NumberOfFrames", file)
    groups = value_of(dataset, "PerFrameFunctionalGroupsSequence", file)
    if groups is None and count == 1:
        return [_frame(dataset, None, file, 0, size)]
    if not groups or len(groups) != count:
        found = len(groups) if groups else "none"
        raise DataError(
            f"{tag_name('PerFrameFunctionalGroupsSequence')} should say where {count} frames lie,"
            f" and has {found}",
            where=file,
        )
    shared = first_item([dataset], "SharedFunctionalGroupsSequence", file)
    return [
        _frame(dataset, [own, *([shared] if shared is not None else [])], file, index, size)
        for index, own in enumerate(groups)
    ]


def _check_gray(dataset: Any, file: str) -> None:
    colored = (
        whole(dataset, "SamplesPerPixel", file) != 1
        or value_of(dataset, "PhotometricInterpretation", file) not in GRAY
        or value_of(dataset, "PixelPresentation", file) in ("COLOR", "MIXED")
    )
    if colored:
        raise DataError("has colored voxels", where=file, allowed="gray values")
    if "ModalityLUTSequence" in dataset:
        raise DataError(
            f"maps its values through a table, {tag_name('ModalityLUTSequence')}",
            where=file,
            allowed="slope and intercept",
        )


def _frame(
    dataset: Any, groups: list[Any] | None, file: str, index: int, size: tuple[int, int]
) -> Frame:
    """One frame, from its functional groups, or from the file where there are none."""

    def within(macro: str) -> Any:
        return dataset if groups is None else first_item(groups, macro, file)

    spacing = numbers(within("PixelMeasuresSequence"), "PixelSpacing", 2, file)
    if min(spacing) <= 0:
        raise unusable("PixelSpacing", file)
    scale = within("PixelValueTransformationSequence") or dataset
    slope = _scale(scale, "RescaleSlope", 1.0, file)
    if slope == 0:
        raise unusable("RescaleSlope", file)
    return Frame(
        file,
        index,
        numbers(within("PlanePositionSequence"), "ImagePositionPatient", 3, file),
        numbers(within("PlaneOrientationSequence"), "ImageOrientationPatient", 6, file),
        (spacing[1], spacing[0]),  # DICOM names the distance of rows first
        size,
        slope,
        _scale(scale, "RescaleIntercept", 0.0, file),
        value_of(dataset, "PhotometricInterpretation", file) == "MONOCHROME1",
        kind_of(dataset, groups, file),
        marks_of(dataset, file),
    )


def _scale(item: Any, keyword: str, default: float, file: str) -> float:
    if value_of(item, keyword, file) in (None, ""):
        return default
    return numbers(item, keyword, 1, file)[0]


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
    """What may tell a frame from others of its place, and does not matter between places.

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
