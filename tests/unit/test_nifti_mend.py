"""Corrected copies of single files: what is changed, what is said, and what must stay."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from nifti_files import AFFINE, content, some_data, write
from processor import AFFINE_MM

from crossmod import DataError
from crossmod.intake import Inspector, Intake, Kind, Limits, load_labels, load_scan, mend

LABELS = (some_data() > 80).astype("u1")
SHEARED = AFFINE.copy()
SHEARED[0, 1] = 1e-3
ROWS = {name: SHEARED[row] for row, name in enumerate(("srow_x", "srow_y", "srow_z"))}


def mended(path: Path, kind: Kind = "scan", scan: Path | None = None) -> list[str]:
    """Mend a file into `copy` beside it."""
    inspector = Inspector(Intake())
    of = inspector.facts(scan, "scan") if scan else None
    copy = path.with_name(f"copy{''.join(path.suffixes)}")
    return mend(path, inspector.facts(path, kind), copy, of, Limits())


def shifted(voxels: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += voxels * AFFINE[:3, 0]
    return affine


def test_only_float_noise_is_moved_onto_the_scan(tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz")
    near = write(tmp_path / "near.nii.gz", data=LABELS, affine=shifted(5e-4))
    assert mended(near, "labels", scan) == ["affine: set to that of its scan"]
    copy = load_labels(tmp_path / "copy.nii.gz")
    np.testing.assert_array_equal(copy.affine, load_scan(scan).affine)
    np.testing.assert_array_equal(copy.labels, LABELS)
    (tmp_path / "copy.nii.gz").unlink()
    for affine in (shifted(0.2), shifted(20), AFFINE @ np.diag([1, 1, -1, 1])):
        far = write(tmp_path / "far.nii.gz", data=LABELS, affine=affine)
        assert mended(far, "labels", scan) == []
        assert not (tmp_path / "copy.nii.gz").exists()


def test_a_qform_that_is_unset_is_told_where_it_lay_elsewhere(tmp_path: Path) -> None:
    moved = {"qoffset_z": 8}
    told = ["qform: unset; it lay up to 7 mm off", "sform: tiny shear (cosine 5.0e-04)"]
    changes = mended(write(tmp_path / "a.nii", **ROWS, **moved))
    assert [text[: len(part)] for text, part in zip(changes, told, strict=True)] == told
    none = mended(write(tmp_path / "a.nii", **ROWS, quatern_b=2))
    assert none[0].startswith("qform: unset; it was invalid: qform: quaternion")
    assert len(mended(write(tmp_path / "a.nii", **ROWS, qform_code=0))) == 1
    assert load_scan(tmp_path / "copy.nii").remarks == ()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_keep_their_values(name: str, version: int, order: str, tmp_path: Path) -> None:
    options = {"version": version, "order": order, "scl_slope": 2.5, "scl_inter": 3, **ROWS}
    plain = content(**options)
    path = tmp_path / name
    path.write_bytes(gzip.compress(plain, mtime=0) if "gz" in name.lower() else plain)
    before = load_scan(path)
    assert "tiny shear" in mended(path)[-1]
    [copy] = tmp_path.glob("copy*")
    after = load_scan(copy)
    assert after.remarks == ()
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_allclose(after.affine, before.affine, atol=AFFINE_MM)


def test_labels_are_rounded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", data=LABELS * 1.0000001)
    assert mended(path, "labels") == ["labels: rounded to whole numbers"]
    assert load_labels(tmp_path / "copy.nii.gz").remarks == ()
    np.testing.assert_array_equal(load_labels(tmp_path / "copy.nii.gz").labels, LABELS)


def test_the_limits_are_those_of_the_recipe_and_the_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", **ROWS)
    facts = Inspector(Intake()).facts(path, "scan")
    with pytest.raises(DataError, match=r"a\.nii: dim: 8 x 7 x 6 = 336 voxels"):
        mend(path, facts, tmp_path / "b.nii", None, Limits(max_voxels=335))
    assert mend(path, facts, tmp_path / "b.nii", None, Limits(max_voxels=336))
