"""DICOM files made by hand: classic series and enhanced multi-frame files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

COLUMNS, ROWS = 5, 4
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def stored(number: int) -> np.ndarray:
    """Voxels of one slice, ``(rows, columns)``; one of them is the same in all."""
    values = np.full((ROWS, COLUMNS), 10 * number + 1, np.int16)
    values[2, 1] = 7
    return values


def header(uid: str, **tags: Any) -> FileDataset:
    """An image without voxels, 0.5 mm along rows and 0.7 mm along columns."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = uid
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID, image.Modality = MRImageStorage, uid, "MR"
    image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.9"
    image.SeriesInstanceUID, image.SeriesDescription = "1.2.3.4", "T2 axial"
    image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    for keyword, value in tags.items():
        setattr(image, keyword, value)
    return image


def series(folder: Path, heights: Sequence[float], first: int = 0, **tags: Any) -> Path:
    """A file for each height along the foot-head axis; voxels tell the order of writing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, height in enumerate(heights, first):
        image = header(f"1.2.3.4.{number + 1}", InstanceNumber=number)
        image.ImagePositionPatient = [-3, 4, height]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing = [0.7, 0.5]
        image.PixelData = stored(number).tobytes()
        for keyword, value in tags.items():
            setattr(image, keyword, value)
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def enhanced(
    path: Path,
    heights: Sequence[float],
    *,
    dimensions: Sequence[tuple[str, Sequence[int]]] = (),
    scales: Sequence[tuple[float, float]] = (),
    **tags: Any,
) -> Path:
    """One file of many frames; dimensions give each frame an index value."""
    image = header("1.2.3.4.1", SOPClassUID=ENHANCED_MR, NumberOfFrames=len(heights))
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    shared.PixelMeasuresSequence = [item(PixelSpacing=[0.7, 0.5])]
    image.SharedFunctionalGroupsSequence = [shared]
    image.DimensionIndexSequence = [item(DimensionIndexPointer=Tag(k)) for k, _ in dimensions]
    image.PerFrameFunctionalGroupsSequence = []
    for number, height in enumerate(heights):
        frame = Dataset()
        frame.PlanePositionSequence = [item(ImagePositionPatient=[-3, 4, height])]
        values = [index[number] for _, index in dimensions]
        frame.FrameContentSequence = [item(DimensionIndexValues=values or None)]
        if scales:
            slope, intercept = scales[number]
            scale = item(RescaleSlope=slope, RescaleIntercept=intercept)
            frame.PixelValueTransformationSequence = [scale]
        image.PerFrameFunctionalGroupsSequence.append(frame)
    image.PixelData = np.stack([stored(n) for n in range(len(heights))]).tobytes()
    for keyword, value in tags.items():
        setattr(image, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path.parent


def item(**tags: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def put(path: Path, **tags: str | None) -> None:
    """Write text into tags of a file, whatever their kind; None leaves a tag out."""
    image = pydicom.dcmread(path)
    for keyword, text in tags.items():
        tag = Tag(tag_for_keyword(keyword) or 0)
        image.pop(tag, None)
        if text is not None:
            value = text.encode() + b" " * (len(text) % 2)
            kind = dictionary_VR(tag)
            image._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    image.save_as(path)
