"""Outlines as DICOM: where they lie, what they refer to, what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_child import no_child  # noqa: F401
from dicom_files import enhanced, item, put, series
from highdicom.seg import Segmentation, segread

from crossmod import DataError, MachineError
from crossmod.intake.dicom import process, read_series, write_seg

CLASSES = {"tumor": 4, "cochlea": 2}


def labels_of(shape: tuple[int, ...]) -> np.ndarray:
    """A tumor in all slices but the first, a cochlea in the last."""
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 1, 1:] = 4
    labels[4, 2, -1] = 2
    return labels


def written(
    folder: Path, labels: np.ndarray, classes: Mapping[str, int] = CLASSES, title: str = "Mine"
) -> pydicom.Dataset:
    scan = read_series(folder)
    path = folder.with_suffix(".out.dcm")
    write_seg(path, labels, scan.affine, classes, folder=folder, title=title)
    return pydicom.dcmread(path)


def put_back(seg: pydicom.Dataset, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The label map that the frames of a segmentation make, by their positions."""
    values = dict(enumerate(CLASSES.values(), 1))
    found = np.zeros(shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, shape[1], shape[0])
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        place = np.linalg.solve(affine, [-position[0], -position[1], position[2], 1])
        np.testing.assert_allclose(place[:2], 0, atol=1e-4)
        k = round(place[2])
        assert place[2] == pytest.approx(k, abs=0.01)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[:, :, k][frame.T > 0] = values[number]
    return found


def test_frames_put_back_by_position_are_the_label_map(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [4, 0, 6, 2])
    scan = read_series(folder)
    labels = labels_of(scan.data.shape)
    seg = written(folder, labels)
    np.testing.assert_array_equal(put_back(seg, scan.affine, labels.shape), labels)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [0.7, 0.5]
    assert len(seg.PerFrameFunctionalGroupsSequence) == 3 + 1  # empty frames are left out


def test_frames_of_an_enhanced_source_are_put_back_too(tmp_path: Path) -> None:
    folder = enhanced(tmp_path / "e" / "e.dcm", [4, 0, 6, 2])
    scan = read_series(folder)
    labels = labels_of(scan.data.shape)
    seg = written(folder, labels)
    np.testing.assert_array_equal(put_back(seg, scan.affine, labels.shape), labels)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"


def volume_of(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The label map as others measure it: on the grid that the segmentation says it has."""
    seg: Segmentation = segread(path)
    geometry = seg.get_volume_geometry()
    np.testing.assert_allclose(geometry.spacing[0], np.linalg.norm(affine[:3, 2]), rtol=1e-6)
    volume = seg.get_volume(combine_segments=False)
    to_ras = np.diag([-1, -1, 1, 1]) @ volume.affine
    found = np.zeros(shape, np.uint8)
    for place in np.argwhere(volume.array):
        voxel = np.linalg.solve(affine, to_ras @ [*place[:3], 1])[:3]
        np.testing.assert_allclose(voxel, voxel.round(), atol=1e-3)
        found[tuple(voxel.round().astype(int))] = list(CLASSES.values())[place[3]]
    return found


@pytest.mark.parametrize("said", ["2.0", "-3", "0", "abc", "", None])
def test_slices_are_as_far_apart_as_their_positions_whatever_a_tag_says(
    said: str | None, tmp_path: Path
) -> None:
    folder = series(tmp_path / "s", [0, 7, 14, 21])
    for path in folder.iterdir():
        put(path, SpacingBetweenSlices=said, SliceThickness=said)
    scan = read_series(folder)
    labels = labels_of(scan.data.shape)
    seg = written(folder, labels)
    found = volume_of(folder.with_suffix(".out.dcm"), labels.shape, scan.affine)
    np.testing.assert_array_equal(found, labels)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == (2 if said == "2.0" else 7)


def test_an_enhanced_source_may_say_for_each_frame_what_is_the_same_for_all(tmp_path: Path) -> None:
    """Philips does."""
    folder = enhanced(tmp_path / "e" / "e.dcm", [4, 0, 2, 6])
    image = pydicom.dcmread(folder / "e.dcm")
    for frame in image.PerFrameFunctionalGroupsSequence:
        measures = item(PixelSpacing=[0.7, 0.5], SliceThickness=3, SpacingBetweenSlices=1)
        frame.PixelMeasuresSequence = [measures]
        frame.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    del image.SharedFunctionalGroupsSequence
    image.save_as(folder / "e.dcm")
    scan = read_series(folder)
    labels = labels_of(scan.data.shape)
    written(folder, labels)
    found = volume_of(folder.with_suffix(".out.dcm"), labels.shape, scan.affine)
    np.testing.assert_array_equal(found, labels)


def test_enhanced_files_of_a_frame_each_are_refused_as_such(tmp_path: Path) -> None:
    for number in range(3):
        enhanced(tmp_path / "e" / f"{number}.dcm", [2 * number])
    with pytest.raises(DataError, match=r"(?s)a series of 3 multi-frame files.*one for a segm"):
        written(tmp_path / "e", labels_of((5, 4, 3)))


def test_dates_of_old_files_are_written_as_today(tmp_path: Path) -> None:
    old = {"StudyDate": "1998.04.01", "StudyTime": "10:11:12", "PatientBirthDate": "1950.07.04"}
    folder = series(tmp_path / "s", [0, 2, 4], PatientSex="F")
    for path in folder.iterdir():
        put(path, **old)
    seg = written(folder, labels_of((5, 4, 3)))
    assert (seg.StudyDate, seg.StudyTime, seg.PatientSex) == ("19980401", "101112", "F")
    assert seg.PatientBirthDate == "19500704"


def test_values_that_are_none_are_left_empty(tmp_path: Path) -> None:
    odd = {"StudyDate": "UNKNOWN", "StudyTime": "noon", "PatientBirthDate": "19501341",
           "PatientSex": "MALE"}  # fmt: skip
    folder = series(tmp_path / "s", [0, 2, 4])
    for path in folder.iterdir():
        put(path, **odd)
    seg = written(folder, labels_of((5, 4, 3)))
    assert not any(seg[keyword].value for keyword in odd)


def test_a_segmentation_refers_to_its_source(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4], PatientName="Müller^Änne",
                    SpecificCharacterSet="ISO_IR 100", PatientID="77")  # fmt: skip
    seg = written(folder, labels_of((5, 4, 3)))
    assert seg.Modality == "SEG"
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.3", "1.2.9")
    assert seg.SeriesInstanceUID != "1.2.3.4"
    [source] = seg.ReferencedSeriesSequence
    assert source.SeriesInstanceUID == "1.2.3.4"
    instances = {one.ReferencedSOPInstanceUID for one in source.ReferencedInstanceSequence}
    assert instances == {"1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"}
    assert (str(seg.PatientName), seg.PatientID) == ("Müller^Änne", "77")


def test_a_segmentation_says_what_made_it(tmp_path: Path) -> None:
    classes = {"tumor": 4, "cochlea, the whole of it": 2, "a\\b": 3}
    labels = labels_of((5, 4, 3))
    seg = written(series(tmp_path / "s", [0, 2, 4]), labels, classes, "Größe " * 20)
    segments = seg.SegmentSequence
    assert [one.SegmentLabel for one in segments] == ["tumor", "cochlea, the whole of it", "a b"]
    types = [one.SegmentedPropertyTypeCodeSequence[0] for one in segments]
    assert [one.CodingSchemeDesignator for one in types] == ["99CROSSMOD"] * 3
    assert [one.CodeMeaning for one in types] == ["tumor", "cochlea, the whole of it", "a b"]
    assert {one.SegmentAlgorithmType for one in segments} == {"AUTOMATIC"}
    name = segments[0].SegmentAlgorithmName
    assert name.startswith(f"crossmod {version('crossmod')}: Größe Größe")
    assert len(name) <= 64


def test_an_empty_label_map_is_an_empty_segmentation(tmp_path: Path) -> None:
    seg = written(series(tmp_path / "s", [0, 2, 4]), np.zeros((5, 4, 3), np.uint8))
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["tumor", "cochlea"]
    assert not seg.pixel_array.any()


def test_a_series_that_is_not_the_one_outlined_is_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    affine = read_series(folder).affine
    moved = affine + np.diag([0, 0, 0.1, 0])
    for labels, grid in ((np.zeros((5, 4, 3), np.uint8), moved),
                         (np.zeros((5, 4, 4), np.uint8), affine)):  # fmt: skip
        with pytest.raises(DataError, match="not the series that was outlined"):
            write_seg(tmp_path / "o.dcm", labels, grid, CLASSES, folder=folder)
    assert not (tmp_path / "o.dcm").exists()


def test_what_the_standard_demands_of_a_source_is_named(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4], FrameOfReferenceUID=None)
    with pytest.raises(DataError, match=r"0.dcm: has no usable \(0020,0052\) FrameOfReferenceUID"):
        written(folder, labels_of((5, 4, 3)))


def test_a_missing_extra_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    known = process.find_spec
    monkeypatch.setattr(process, "find_spec",
                        lambda name: None if name == "highdicom" else known(name))  # fmt: skip
    with pytest.raises(MachineError, match="needs highdicom, which is not installed"):
        written(folder, labels_of((5, 4, 3)))
