"""Outlines as a DICOM segmentation object, with tags of its source. Runs in the child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data.volumes import LabelArray
from crossmod.errors import DataError, writing
from crossmod.intake.dicom.files import read_tags, silence
from crossmod.intake.dicom.read import tagged
from crossmod.intake.dicom.series import find_series
from crossmod.intake.dicom.stack import Stack
from crossmod.intake.dicom.tags import (
    first_item,
    numbers,
    tag_name,
    uid_of,
    unusable,
    value_of,
)

SCHEME = "99CROSSMOD"
"""Designator of codes that no standard knows; those of the world begin with 99."""

ABNORMAL = ("49755003", "SCT", "Morphologically Altered Structure")
NETWORK = ("123109", "DCM", "Artificial Intelligence")

SERIES_NUMBER = 9000
"""High, so that it stands behind what a scanner made."""

LONG, SHORT = 64, 16
"""Characters of values of the kinds LO and SH."""

SAME_MM = 1e-3

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
          "FrameOfReferenceUID")  # fmt: skip
"""Identifiers that a segmentation takes from its source."""

MAY_BE_EMPTY = ("PatientName", "PatientID", "StudyID", "AccessionNumber",
                "ReferringPhysicianName")  # fmt: skip

GROUPS, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def write(folder: Path, labels: LabelArray, request: Mapping[str, Any]) -> None:
    """Write ``labels`` ``(I, J, K)`` of the series of a folder to the path of the request.

    Raises:
        DataError: the series is another one than was outlined, or lacks an identifier.
        MachineError: the file cannot be written.
    """
    silence()
    series, _ = find_series(folder, request["series"])
    found = tagged(folder, series, request["max_voxels"])
    size = (*found.frames[0].size, len(found.frames))
    if labels.shape != size or np.abs(found.affine - request["affine"]).max() > SAME_MM:
        raise DataError("is not the series that was outlined; its files have changed")
    frames = _frames(labels, found, list(request["classes"].values()))
    made = _segmentation(sources(folder, found), frames, request)
    with writing(request["path"], fix=""):
        made.save_as(request["path"], enforce_file_format=True)


def _frames(labels: LabelArray, found: Stack, values: Sequence[int]) -> LabelArray:
    """Segment numbers ``(frames, rows, columns)``, in the order of the source's frames."""
    segments = np.zeros(256, np.uint8)
    segments[list(values)] = np.arange(1, len(values) + 1)
    order = np.arange(len(found.frames))
    if len({one.file for one in found.frames}) == 1:  # a multi-frame file has an order of its own
        order = np.argsort([one.index for one in found.frames])
    frames: LabelArray = segments[labels.transpose(2, 1, 0)[order]]
    return frames


def _segmentation(source: list[Any], frames: LabelArray, request: Mapping[str, Any]) -> Any:
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from highdicom.sr import CodedConcept

    release = version("crossmod")
    title = f": {request['title']}" if request["title"] else ""
    name = _short(f"crossmod {release}{title}", LONG)
    algorithm = AlgorithmIdentificationSequence(name, CodedConcept(*NETWORK), release)
    with _explained():
        return Segmentation(
            source,
            frames,
            SegmentationTypeValues.BINARY,
            [_segment(n, one, algorithm) for n, one in enumerate(request["classes"], 1)],
            series_instance_uid=UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer="crossmod",
            manufacturer_model_name="crossmod",
            software_versions=release,
            device_serial_number="none",
            series_description=name,
            content_description="Outlines made by a model; not reviewed",
            content_label="OUTLINES",
            specific_character_set="ISO_IR 192",
        )


@contextmanager
def _explained() -> Iterator[None]:
    """What highdicom misses or refuses, without its text, which may quote values."""
    try:
        yield
    except AttributeError as error:
        raise DataError(
            f"lacks {tag_name(str(error.name))}, which a segmentation takes from its source"
        ) from error
    except (TypeError, ValueError) as error:
        raise DataError(
            f"cannot be the source of a segmentation ({type(error).__name__})"
        ) from error


def _segment(number: int, name: str, algorithm: Any) -> Any:
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept

    label = _short(name, LONG)
    code = label if len(label) <= SHORT else f"SEGMENT-{number}"
    return SegmentDescription(
        number,
        label,
        CodedConcept(*ABNORMAL),
        CodedConcept(code, SCHEME, label),
        SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm,
    )


def _short(text: str, most: int) -> str:
    """Text as a value of a tag, where a backslash would begin another value."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text)[:most].strip()


def sources(folder: Path, found: Stack) -> list[Any]:
    """The tags of the files a segmentation refers to, in the order of its slices.

    Raises:
        DataError: there are several multi-frame files, or one lacks an identifier.
    """
    names = list(dict.fromkeys(one.file for one in found.frames))
    read = [read_tags(folder, name) for name in names]
    if len(names) > 1 and any(GROUPS in tags for tags in read):
        raise DataError(
            f"is a series of {len(names)} multi-frame files", allowed="one for a segmentation"
        )
    for tags, name in zip(read, names, strict=True):
        for keyword in NEEDED:
            uid_of(tags, keyword, name)
        _fill_patient(tags, name)
        _set_geometry(tags, found, name)
    return read


def _fill_patient(tags: Any, name: str) -> None:
    """Make what the standard allows to be empty so where it is missing or no value at all."""
    for keyword in MAY_BE_EMPTY:
        if keyword not in tags:
            setattr(tags, keyword, None)
    for keyword, normal in _forms().items():
        text = str(value_of(tags, keyword, name) or "").strip()
        try:
            value = normal(text) if text else None
        except ValueError:
            value = None
        setattr(tags, keyword, value)


def _forms() -> dict[str, Callable[[str], str]]:
    """How values of tags of a fixed form are written; a ValueError says that they are none."""
    from highdicom import PatientSexValues
    from pydicom.valuerep import DA, TM

    def date(text: str) -> str:  # until 1993 1998.04.01
        return str(DA(text.replace(".", "")))

    def time(text: str) -> str:  # until 1993 10:11:12
        return str(TM(text.replace(":", "")))

    def sex(text: str) -> str:
        return str(PatientSexValues(text).value)

    return {"StudyDate": date, "StudyTime": time, "PatientBirthDate": date, "PatientSex": sex}


def _set_geometry(tags: Any, found: Stack, name: str) -> None:
    """Say the distance of slices as their positions do, for all frames at one place."""
    step = float(np.linalg.norm(found.affine[:3, 2]))
    groups = value_of(tags, GROUPS, name)
    if not groups:
        _set_step(tags, step, name)
        return
    if not value_of(tags, SHARED, name):
        from pydicom.dataset import Dataset

        setattr(tags, SHARED, [Dataset()])
    shared = first_item([tags], SHARED, name)
    for macro in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        # All frames agree, or they would not form a stack.
        setattr(shared, macro, [first_item([groups[0], shared], macro, name)])
    _set_step(first_item([shared], "PixelMeasuresSequence", name), step, name)


def _set_step(item: Any, step: float, name: str) -> None:
    """Replace SpacingBetweenSlices, and SliceThickness where it is not a positive number."""
    from pydicom.valuerep import DSfloat

    item.SpacingBetweenSlices = DSfloat(step, auto_format=True)
    try:
        [thickness] = numbers(item, "SliceThickness", 1, name)
        if thickness <= 0:
            raise unusable("SliceThickness", name)
    except DataError:
        item.SliceThickness = DSfloat(step, auto_format=True)
