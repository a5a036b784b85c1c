"""Which scans folders hold: patient folders, BIDS, label maps beside scans, other formats."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from test_dicom_commands import crossmod, failed, model  # noqa: F401
from test_model import _level, a_scan  # noqa: F401  # the plugin "level" of this module

from crossmod import DataError
from crossmod.intake import find_scan_files


def scan(path: Path, values: int = 200, seed: int = 0) -> Path:
    """A scan, or a label map of few values."""
    data = np.random.default_rng(seed).integers(0, values, (6, 7, 5)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        plain = path.with_name(path.name.lower())
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1.0, -1.0, 2.0, 1.0])), plain)
        plain.rename(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(data), str(path))
    return path


def cases(root: Path, ending: str = "") -> tuple[dict[str, str], list[str]]:
    """Case -> file below a folder, and what was said."""
    told: list[str] = []
    found = find_scan_files([root], ending, tell=told.append)
    return {one.case: one.path.relative_to(root).as_posix() for one in found}, told


@pytest.mark.parametrize("name", ["a.NII.GZ", "a.nrrd", "a.mha", "a.mgz", "a.NRRD", "a.nii"])
def test_images_are_found_by_their_ending(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert cases(tmp_path)[0] == {"a": name}
    assert find_scan_files([tmp_path / name])[0].case == "a"


def test_patient_folders_name_the_cases(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        scan(tmp_path / patient / "T2.nii.gz")
    assert cases(tmp_path)[0] == {"p1": "p1/T2.nii.gz", "p2": "p2/T2.nii.gz"}
    scan(tmp_path / "p2" / "T1.nii.gz")
    with pytest.raises(DataError, match=r"p2: holds 2 scans: T1.nii.gz, T2.nii.gz\n.*--ending"):
        cases(tmp_path)
    for ending in ("T2", "T2.nii.gz"):
        assert cases(tmp_path, ending)[0] == {"p1": "p1/T2.nii.gz", "p2": "p2/T2.nii.gz"}
    with pytest.raises(DataError, match=r"'T2' is already used by .*p1.*name the folder around"):
        find_scan_files([tmp_path / "p1" / "T2.nii.gz", tmp_path / "p2" / "T2.nii.gz"])


def test_label_maps_of_patient_folders_are_skipped_and_named(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        scan(tmp_path / patient / "T2.nii.gz")
        scan(tmp_path / patient / "drawn.nii.gz", values=3)  # nothing in its name says so
    found, told = cases(tmp_path)
    assert found == {"p1": "p1/T2.nii.gz", "p2": "p2/T2.nii.gz"}
    [line] = told
    assert "skipped 2 label maps: p1/drawn.nii.gz, p2/drawn.nii.gz" in line


def test_a_bids_data_set(tmp_path: Path) -> None:
    scan(tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    scan(tmp_path / "sub-02" / "anat" / "sub-02_T2w.nii.gz")
    assert list(cases(tmp_path)[0]) == ["sub-01", "sub-02"]
    (tmp_path / "dataset_description.json").write_text("{}")
    scan(tmp_path / "derivatives" / "other" / "sub-01" / "sub-01_T2w.nii.gz")
    found, told = cases(tmp_path)
    assert list(found) == ["sub-01", "sub-02"]
    assert "skipped 1 images in derivatives" in told[0]
    for session in ("ses-1", "ses-2"):
        scan(tmp_path / "sub-03" / session / "anat" / f"sub-03_{session}_T2w.nii.gz")
    assert list(cases(tmp_path)[0]) == [
        "sub-01_anat",
        "sub-02_anat",
        "sub-03_ses-1",
        "sub-03_ses-2",
    ]


def test_label_maps_beside_scans_are_skipped_by_name_and_content(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    scan(tmp_path / "a_seg.nii.gz", values=3)
    scan(tmp_path / "a.seg.nrrd", values=3)
    scan(tmp_path / "mask-study.nii.gz")  # called so, and a scan
    found, told = cases(tmp_path)
    assert set(found) == {"a", "mask-study"}
    assert "skipped 2 label maps: a.seg.nrrd, a_seg.nii.gz" in told[0]
    (tmp_path / "a.nii.gz").unlink()
    (tmp_path / "mask-study.nii.gz").unlink()
    with pytest.raises(DataError, match="holds only label maps"):
        cases(tmp_path)


def test_what_is_neither_an_image_nor_dicom_is_said_to_be_none(tmp_path: Path) -> None:
    for name in ("a.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x" * 200)
    with pytest.raises(DataError) as caught:
        cases(tmp_path)
    assert "holds no scan, but a.tif, notes.txt" in str(caught.value)
    assert ".nrrd" in str(caught.value)
    assert "pydicom" not in str(caught.value)
    (tmp_path / "slice").write_bytes(bytes(128) + b"DICM")
    assert cases(tmp_path)[0] == {tmp_path.name: "."}


def test_predict_skips_label_maps_and_outlines_patient_folders(
    model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for patient in ("p1", "p2"):
        (tmp_path / "in").mkdir(exist_ok=True)
        a_scan(tmp_path / "in" / patient, "T2")
        scan(tmp_path / "in" / patient / "tumor.nii.gz", values=2)
    done = crossmod("predict", model, tmp_path / "in", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "skipped 2 label maps" in done.output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "p1.nii.gz",
        "p2.nii.gz",
    ]
    flat = tmp_path / "flat"
    a_scan(flat, "a")
    scan(flat / "drawn.nii.gz", values=3)
    done = crossmod("predict", model, flat, tmp_path / "flat-out")
    assert done.exit_code == 0, done.output
    assert (
        "drawn.nii.gz: holds only the values 0, 1, 2: a label map; skipped"
        in done.output.replace("\n", "")
    )
    assert "1 of 1 scans outlined" in done.output
    alone = crossmod("predict", model, flat / "drawn.nii.gz", tmp_path / "alone")
    assert "a label map" in failed(alone, 3)


def test_outlines_of_one_scan_are_the_same_in_every_format(
    model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = a_scan(tmp_path / "in", "nifti").path
    image = sitk.ReadImage(str(path))
    for ending in ("nrrd", "mha", "nhdr", "mhd"):
        sitk.WriteImage(image, str(tmp_path / "in" / f"{ending}.{ending}"))
    nifti = nibabel.load(path)
    mgh = nibabel.MGHImage(np.asarray(nifti.dataobj, np.float32), nifti.affine)
    nibabel.save(mgh, tmp_path / "in" / "mgz.mgz")
    done = crossmod("predict", model, tmp_path / "in", tmp_path / "out", "--name", "{case}.nii.gz")
    assert done.exit_code == 0, done.output
    known = nibabel.load(tmp_path / "out" / "nifti.nii.gz")
    assert np.asarray(known.dataobj).any()
    for name in ("nrrd", "mha", "nhdr", "mhd", "mgz"):
        found = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(known.dataobj))
        np.testing.assert_allclose(found.affine, known.affine, atol=1e-5)
