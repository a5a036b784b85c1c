"""The tags a segmentation takes from its source, made fit for it. Runs in the child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.errors import DataError
from crossmod.intake.dicom.files import read_tags
from crossmod.intake.dicom.stack import Stack
from crossmod.intake.dicom.tags import first_item, numbers, uid_of, unusable, value_of

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
          "FrameOfReferenceUID")  # fmt: skip
"""Identifiers that a segmentation takes from its source."""

MAY_BE_EMPTY = ("PatientName", "PatientID", "StudyID", "AccessionNumber",
                "ReferringPhysicianName")  # fmt: skip

GROUPS, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


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
        # All frames agree, or they would be no stack.
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
