"""Where each frame of a file lies, and what its voxel values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossmod.errors import DataError
from crossmod.intake.dicom.kinds import Marks, image_type, kind_of, marks_of
from crossmod.intake.dicom.tags import first_item, numbers, tag_name, unusable, value_of, whole

GRAY = ("MONOCHROME1", "MONOCHROME2")


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
        kind_of(dataset, groups, file),
        marks_of(dataset, file),
    )


def _scale(item: Any, keyword: str, default: float, file: str) -> float:
    if value_of(item, keyword, file) in (None, ""):
        return default
    return numbers(item, keyword, 1, file)[0]
