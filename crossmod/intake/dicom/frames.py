"""Where each frame of a file lies, and what its voxel values mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crossmod.errors import DataError
from crossmod.intake.dicom.tags import first_item, numbers, tag_name, unusable, value_of, whole

GRAY = ("MONOCHROME1", "MONOCHROME2")

DIFFER = ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber",
          "DiffusionBValue", "TriggerTime", "ImageType", "AcquisitionTime")  # fmt: skip
"""Tags by which images of one place differ."""

PLACES = ("StackID", "InStackPositionNumber", "ImagePositionPatient")
"""Dimensions of an enhanced file that are no further ones."""


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
        marks: what tells it from other frames of its place: tag -> a value nobody is shown.
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
    marks: tuple[tuple[str, str], ...]


def frames_of(dataset: Any, file: str) -> list[Frame]:
    """The frames of a file, in its order.

    Raises:
        DataError: it has colored voxels, or does not say where a frame lies or what its values
            mean.
    """
    _check_gray(dataset, file)
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
            f"maps its values by a table, {tag_name('ModalityLUTSequence')}",
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
        tuple(_marks(dataset, groups, file)),
    )


def _scale(item: Any, keyword: str, default: float, file: str) -> float:
    if value_of(item, keyword, file) in (None, ""):
        return default
    return numbers(item, keyword, 1, file)[0]


def _marks(dataset: Any, groups: list[Any] | None, file: str) -> Iterable[tuple[str, str]]:
    if groups is None:
        for keyword in DIFFER:
            yield tag_name(keyword), str(value_of(dataset, keyword, file))
        return
    content = first_item(groups, "FrameContentSequence", file)
    values = value_of(content, "DimensionIndexValues", file) or ()
    values = [values] if isinstance(values, int) else values
    dimensions = value_of(dataset, "DimensionIndexSequence", file) or ()
    for dimension, value in zip(dimensions, values, strict=False):
        keyword = _pointed(dimension, file)
        if keyword not in PLACES:
            yield keyword, str(value)


def _pointed(dimension: Any, file: str) -> str:
    """What a dimension is, by its tag."""
    from pydicom.datadict import keyword_for_tag

    pointer = value_of(dimension, "DimensionIndexPointer", file)
    try:
        keyword = str(keyword_for_tag(pointer))
    except (TypeError, ValueError, OverflowError):
        raise unusable("DimensionIndexPointer", file) from None
    if keyword in PLACES:
        return keyword
    return tag_name(keyword) if keyword else "a private dimension"
