"""Scans from outside: found, named, read, and refused where they would mislead."""

from __future__ import annotations

import gzip
import locale
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from crossmod import DataError
from crossmod.intake import ScanFile, find_scan_files, read_scan

SHAPE = (8, 7, 6)
AFFINE = np.array([[-1.0, 0, 0, 5], [0, 2, 0, -3], [0, 0, 1.5, 1], [0, 0, 0, 1]])


def some_data(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def nifti(path: Path, data: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(some_data() if data is None else data, affine), path)
    return path


def read(path: Path) -> np.ndarray:
    return read_scan(ScanFile("case", path)).data


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path)
    for word in words:
        assert word in str(caught.value)
    assert path.name in str(caught.value)


def test_files_and_folders_become_cases_in_the_order_given(tmp_path: Path) -> None:
    one = nifti(tmp_path / "b_hrT2.nii.gz")
    folder = tmp_path / "more"
    nifti(folder / "d.nii")
    nifti(folder / "c.nii.gz")
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    (folder / ".hidden.nii.gz").write_bytes(b"")
    assert [scan.case for scan in find_scan_files([one, folder])] == ["b_hrT2", "c", "d"]


def test_an_ending_is_no_part_of_the_case_and_chooses_in_folders(tmp_path: Path) -> None:
    nifti(tmp_path / "a_hrT2.nii.gz")
    nifti(tmp_path / "a_ceT1.nii.gz")
    assert find_scan_files([tmp_path], "_hrT2") == [ScanFile("a", tmp_path / "a_hrT2.nii.gz")]
    with pytest.raises(DataError, match="ends with '_T9'"):
        find_scan_files([tmp_path], "_T9")
    with pytest.raises(DataError, match="does not end with '_hrT2'"):
        find_scan_files([tmp_path / "a_ceT1.nii.gz"], "_hrT2")


def test_all_wrong_paths_are_named_at_once(tmp_path: Path) -> None:
    nifti(tmp_path / "one" / "a.nii.gz")
    nifti(tmp_path / "two" / "a.nii")
    (tmp_path / "empty").mkdir()
    text = tmp_path / "a.txt"
    text.write_text("x", encoding="utf-8")
    paths = [tmp_path / name for name in ("one", "two", "empty", "a.txt", "nowhere")]
    with pytest.raises(DataError) as caught:
        find_scan_files(paths)
    message = str(caught.value)
    for part in ("the name 'a' is taken", "holds no files", "not a NIfTI file by its name",
                 "nowhere: does not exist"):  # fmt: skip
        assert part in message


def test_a_folder_named_by_a_dot_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patient" / "inside").mkdir(parents=True)
    (tmp_path / "patient" / "slice").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "patient")
    assert find_scan_files([Path()])[0].case == "patient"
    monkeypatch.chdir(tmp_path / "patient" / "inside")
    assert find_scan_files([Path("..")])[0].case == "patient"


def test_a_scan_is_read_with_its_geometry(tmp_path: Path) -> None:
    volume = read_scan(ScanFile("case", nifti(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(volume.data[0], some_data())
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert read(nifti(tmp_path / "single.nii", some_data()[..., None])).shape == (1, *SHAPE)


def test_images_that_are_not_3d_are_refused(tmp_path: Path) -> None:
    for shape in [(8, 7), (8, 7, 1), (8, 7, 6, 2)]:
        refused(nifti(tmp_path / f"a{len(shape)}.nii", some_data(shape)), "one 3D image")


def test_values_that_are_no_image_are_refused(tmp_path: Path) -> None:
    broken = some_data().astype(np.float32)
    broken[0, 0, :2] = np.nan, np.inf
    refused(nifti(tmp_path / "nan.nii", broken), "2 of 336 voxels are NaN or infinite")
    refused(nifti(tmp_path / "flat.nii", np.ones(SHAPE, np.int16)), "all voxels have the value 1")
    color = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti(tmp_path / "color.nii", color), "real numbers")


def test_files_that_are_no_nifti_are_refused(tmp_path: Path) -> None:
    whole = nifti(tmp_path / "whole.nii.gz").read_bytes()
    contents = {
        "text.nii.gz": b"<html>not found</html>",
        "empty.nii": b"",
        "cut.nii.gz": whole[: len(whole) // 2],
        "short.nii": gzip.decompress(whole)[:-9],
        "plain.nii.gz": gzip.decompress(whole),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "cannot be read as NIfTI")
    refused(tmp_path / "gone.nii", "cannot be read as NIfTI")


def test_geometry_that_misleads_is_refused(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.1
    refused(nifti(tmp_path / "sheared.nii", affine=sheared), "not perpendicular")
    slightly = AFFINE.copy()
    slightly[0, 1] = 1e-4
    assert read(nifti(tmp_path / "slightly.nii", affine=slightly)).any()

    image = nibabel.Nifti1Image(some_data(), AFFINE)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "unset.nii")
    refused(tmp_path / "unset.nii", "sform and qform are both unset")
    image.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), 1)
    nibabel.save(image, tmp_path / "flat.nii")
    refused(tmp_path / "flat.nii", "no usable affine")


def dicom(folder: Path, heights: list[float], **changes: str) -> Path:
    """Slices of 5 x 4 voxels, 0.5 x 0.7 mm, at heights along the foot-head axis."""
    folder.mkdir(parents=True, exist_ok=True)
    before = locale.setlocale(locale.LC_ALL)
    for number, height in enumerate(heights):
        image = SimpleITK.GetImageFromArray(np.full((4, 5), 10 * number + 1, np.int16))
        image[2, 1] = 7
        image.SetSpacing((0.5, 0.7))
        tags = {
            "0008|0060": "MR",
            "0008|103e": "T2 axial",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(number),
            "0020|0032": f"-3\\4\\{height}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            **{tag.replace("x", "|")[1:]: value for tag, value in changes.items()},
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{len(list(folder.iterdir()))}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # writing DICOM sets it to "C"
    return folder


def test_a_series_is_read_in_order_of_its_positions(tmp_path: Path) -> None:
    volume = read_scan(ScanFile("case", dicom(tmp_path / "s", [4, 0, 2])))
    assert volume.data[0, 0, 0].tolist() == [11, 21, 1]
    assert volume.data[0, 2, 1].tolist() == [7, 7, 7]
    expected = [[-0.5, 0, 0, 3], [0, -0.7, 0, -4], [0, 0, 2, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected)


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        ([0, 2, 6, 8], "2.00 to 6.00 mm: slices are missing (elsewhere 2.00 mm apart)"),
        ([0, 2, 2, 4, 6], "2.00 to 2.00 mm: twice the same position"),
        ([0, 0, 2, 2, 4, 4], "4.00 to 4.00 mm: twice the same position"),
        ([0, 2, 4.5, 6.5], "2.00 to 4.50 mm: uneven"),
        ([0, 0], "twice the same position"),
        ([0], "single slice"),
    ],
)
def test_slices_that_are_no_even_stack_are_refused(
    heights: list[float], said: str, tmp_path: Path
) -> None:
    refused(dicom(tmp_path / "s", heights), said)


def test_several_series_in_a_folder_are_listed(tmp_path: Path) -> None:
    folder = dicom(tmp_path / "s", [0, 2, 4])
    dicom(folder, [0, 3], x0020x000e="1.2.3.5", x0008x103e="scout")
    refused(folder, "2 series", "1.2.3.4: 3 files, T2 axial", "1.2.3.5: 2 files, scout")


def test_slices_unlike_each_other_are_refused(tmp_path: Path) -> None:
    turned = dicom(tmp_path / "turned", [0, 2])
    dicom(turned, [4], x0020x0037="0\\1\\0\\1\\0\\0")
    refused(turned, "orientation")
    shifted = dicom(tmp_path / "shifted", [0, 2])
    dicom(shifted, [4], x0020x0032="-2\\4\\4")
    refused(shifted, "shifted sideways")


def test_folders_without_a_readable_series_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").write_text("nothing", encoding="utf-8")
    refused(tmp_path / "s", "neither NIfTI files nor a DICOM series")


@pytest.mark.parametrize("lost", [1, 20, 500])
def test_a_damaged_slice_is_not_passed_over(lost: int, tmp_path: Path) -> None:
    cut = dicom(tmp_path / "cut", [0, 2, 4])
    for victim in (cut / "1.dcm", cut / "2.dcm"):  # what is left would be an even stack
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-lost])
        refused(cut, "damaged or no images", victim.name)
        victim.write_bytes(whole)
    assert read(cut).shape == (1, 5, 4, 3)
