"""Outlines lie where the scan lies, whichever of its affines a reader follows."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nifti_files import AFFINE, SHAPE, write
from scipy.spatial.transform import Rotation

from crossmod.data.form import FIELDS, Form, write_outline
from crossmod.data.grids import Grid, Preprocess, to_common, to_native
from crossmod.intake import Intake, load_labels, load_scan
from crossmod.intake.nifti.read import read_header
from crossmod.run.steps.scans import Native, load_grids, save_grids

ACCEPT = Intake(assume_affine=True)
CODES = {
    "both": {},
    "they differ": {"qoffset_z": 6.0},
    "both to an atlas, and they differ": {"qform_code": 2, "sform_code": 4, "qoffset_z": 6.0},
    "sform alone": {"qform_code": 0, "qoffset_z": 6.0},
    "qform alone": {"sform_code": 0, "srow_z": (0, 0, 1.5, 9)},
    "neither": {"qform_code": 0, "sform_code": 0},
    "no unit": {"xyzt_units": 0},
    "big-endian": {"order": ">", "qoffset_z": 6.0},
    "mirrored": {"quatern_b": 0, "quatern_c": 0, "pixdim": (-1, 1, 2, 1.5, 0, 0, 0, 0)},
}  # fmt: skip
OBLIQUE = AFFINE.copy()
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (8, -12, 5), degrees=True).as_matrix() @ AFFINE[:3, :3]


def outlined(folder: Path, labels: np.ndarray | None = None, **fields: object) -> tuple[Path, Path]:
    """A scan, and an outline of it that went through the notes of a run."""
    scan = write(folder / "scan.nii", **fields)
    found = load_scan(scan, ACCEPT)
    native = Native(Grid(found.data.shape, found.affine), found.form)
    save_grids(folder, {"a": native})
    kept = load_grids(folder)["a"]
    labels = np.ones(SHAPE, np.uint8) if labels is None else labels
    write_outline(folder / "seg.nii.gz", labels, kept.grid.affine, kept.form)
    return scan, folder / "seg.nii.gz"


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("fields", CODES.values(), ids=CODES.keys())
def test_readers_put_an_outline_where_they_put_the_scan(
    tmp_path: Path, fields: dict[str, object], affine: np.ndarray
) -> None:
    scan, seg = outlined(tmp_path, affine=affine, **fields)
    for field in (*FIELDS, "pixdim"):
        one, other = (np.array(read_header(path).raw[field]) for path in (scan, seg))
        assert np.array_equal(one.ravel()[:4], other.ravel()[:4]), field
    one, other = nibabel.load(scan), nibabel.load(seg)
    assert np.array_equal(one.affine, other.affine)
    assert other.get_data_dtype() == np.uint8
    assert np.asarray(other.dataobj).all()
    one, other = (SimpleITK.ReadImage(str(path)) for path in (scan, seg))
    for get in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert getattr(one, get)() == getattr(other, get)()


def test_an_outline_of_another_format_has_both_affines(tmp_path: Path) -> None:
    write_outline(tmp_path / "seg.nii", np.ones(SHAPE, np.uint8), OBLIQUE, None)
    image = nibabel.load(tmp_path / "seg.nii")
    for affine in (image.get_qform(coded=True), image.get_sform(coded=True)):
        assert affine[1] == 1
        # Single precision keeps the rotation to some 1e-7, of at most 12 mm.
        np.testing.assert_allclose(affine[0], OBLIQUE, atol=1e-5)


def test_what_an_older_version_prepared_is_read(tmp_path: Path) -> None:
    (tmp_path / "grids.json").write_text('{"a": {"shape": [1, 2, 3], "affine": [[1]]}}', "utf-8")
    assert load_grids(tmp_path)["a"].form is None


def place_and_volume(folder: Path, data: np.ndarray, affine: np.ndarray, **codes: object) -> list:
    """Center, mm, and volume, mm3, of an outline that goes to a common grid and back."""
    scan = write(folder / "scan.nii.gz", data=data, affine=affine, **codes)
    found = load_scan(scan)
    options = Preprocess(spacing_mm=(1.0, 1.0, 1.0), crop=(12, 12))
    image, _, common = to_common(found.data, None, found.affine, options)
    sure = np.stack([image <= 0.5, image > 0.5]).astype(np.float32)
    native = Grid(found.data.shape, found.affine)
    write_outline(folder / "seg.nii.gz", to_native(sure, common, native), found.affine, found.form)
    seg = load_labels(folder / "seg.nii.gz")
    voxels = np.argwhere(seg.labels)
    center = seg.affine[:3, :3] @ voxels.mean(axis=0) + seg.affine[:3, 3]
    return [*center, len(voxels) * abs(np.linalg.det(seg.affine[:3, :3]))]


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
def test_outlines_of_variants_of_one_scan_agree(tmp_path: Path, affine: np.ndarray) -> None:
    """Axes flipped and swapped, and the affine written as one form, the other or both."""
    data = np.full((12, 9, 10), 10, np.int16)
    data[3:9, 2:6, 3:8] = 200
    expected = place_and_volume(tmp_path, data, affine)
    turned, other = data[::-1].transpose(2, 0, 1), affine.copy()
    other[:3, 3] += other[:3, 0] * (len(data) - 1)
    other[:3, 0] *= -1
    other[:, :3] = other[:, [2, 0, 1]]
    for voxels, where in ((data, affine), (turned, other)):
        for codes in ({}, {"sform_code": 0}, {"qform_code": 0}, {"qform_code": 0, "qoffset_x": 5}):
            found = place_and_volume(tmp_path, voxels, where, **codes)
            # A qform holds its rotation in single precision: 1e-6 of some 20 mm.
            np.testing.assert_allclose(found, expected, atol=1e-3)


@given(
    rows=arrays(np.float32, 12, elements=st.floats(-1e4, 1e4, width=32)),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_any_form_is_kept(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray,
                          codes: tuple[int, int]) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("form")
    header = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).header.structarr.copy()
    header["srow_x"], header["srow_y"], header["srow_z"] = rows.reshape(3, 4)
    header["qform_code"], header["sform_code"] = codes
    form = Form.of(header)
    write_outline(folder / "seg.nii", np.zeros(SHAPE, np.uint8), AFFINE, form)
    assert Form.of(nibabel.load(folder / "seg.nii").header.structarr) == form
