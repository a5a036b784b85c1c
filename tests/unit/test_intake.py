"""Scans from outside: found, named and read."""

from __future__ import annotations

import pickle
from dataclasses import astuple
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import AFFINE, SHAPE, content, some_data, write

from crossmod import DataError
from crossmod.files.digests import digest_of
from crossmod.files.outputs import Outputs
from crossmod.intake import (
    Inspector,
    Intake,
    ScanFile,
    find_scan_files,
    load_grid,
    load_labels,
    load_scan,
)


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path)


def test_files_and_folders_become_cases_in_the_order_given(tmp_path: Path) -> None:
    one = nifti(tmp_path / "b_hrT2.nii.gz")
    folder = tmp_path / "more"
    nifti(folder / "d.nii")
    nifti(folder / "c.nii.gz")
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    (folder / ".hidden.nii.gz").write_bytes(b"")
    assert [scan.case for scan in find_scan_files([one, folder])] == ["b_hrT2", "c", "d"]


def test_label_maps_that_predict_wrote_are_not_scans(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii.gz")
    with Outputs(tmp_path, "crossmod predict").file("a_seg.nii.gz") as file:
        file.write_bytes(b"labels")
    assert [scan.case for scan in find_scan_files([tmp_path])] == ["a"]
    assert [scan.case for scan in find_scan_files([tmp_path / "a_seg.nii.gz"])] == ["a_seg"]
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(DataError, match="holds only label maps"):
        find_scan_files([tmp_path])
    nifti(tmp_path / "a_seg.nii.gz")  # a scan of this name took its place
    assert [scan.case for scan in find_scan_files([tmp_path])] == ["a_seg"]


def test_an_ending_is_no_part_of_the_case_and_chooses_in_folders(tmp_path: Path) -> None:
    nifti(tmp_path / "a_hrT2.nii.gz")
    nifti(tmp_path / "a_ceT1.nii.gz")
    expected = [ScanFile("a", tmp_path / "a_hrT2.nii.gz", found=True)]
    for ending in ("_hrT2", "_hrT2.nii.gz", "_hrT2.NII.GZ"):
        assert find_scan_files([tmp_path], ending) == expected
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
    for part in ("the name 'a' is already used", "holds no files", "not named like an image file",
                 "nowhere: does not exist"):  # fmt: skip
        assert part in message


def test_a_folder_named_by_a_dot_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patient" / "inside").mkdir(parents=True)
    (tmp_path / "patient" / "slice").write_bytes(bytes(128) + b"DICM")
    monkeypatch.chdir(tmp_path / "patient")
    assert find_scan_files([Path()])[0].case == "patient"
    monkeypatch.chdir(tmp_path / "patient" / "inside")
    assert find_scan_files([Path("..")])[0].case == "patient"


def test_a_scan_is_read_with_its_geometry(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(some_data(), AFFINE), path)
    scan = load_scan(path)
    np.testing.assert_array_equal(scan.data, some_data())
    np.testing.assert_array_equal(scan.affine, AFFINE)
    assert scan.data.dtype == np.float32
    assert scan.digest == sha256(path.read_bytes()).hexdigest()
    assert scan.remarks == ()
    grid = load_grid(path)
    assert grid.shape == SHAPE
    np.testing.assert_array_equal(grid.affine, AFFINE)


def test_a_label_map_is_read_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", data=(some_data() % 3).astype("u1"))
    found = load_labels(path)
    np.testing.assert_array_equal(found.labels, some_data() % 3)
    assert found.labels.dtype == np.uint8
    assert found.digest == sha256(path.read_bytes()).hexdigest()


def test_a_message_names_file_field_found_and_expected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", bitpix=8)
    with pytest.raises(DataError) as caught:
        load_scan(path)
    expected = f"{path}: bitpix: 8\n  allowed: 16, as datatype int16 has"
    assert str(caught.value) == expected
    assert str(pickle.loads(pickle.dumps(caught.value))) == expected


def test_what_was_seen_is_remembered_by_content(tmp_path: Path) -> None:
    path, memory = write(tmp_path / "a.nii.gz"), tmp_path / "memory"
    seen = Inspector(Intake(), memory).facts(path, "scan")
    [note] = memory.iterdir()
    path.rename(tmp_path / "b.nii.gz")
    assert Inspector(Intake(), memory).facts(tmp_path / "b.nii.gz", "scan") == seen
    assert len(list(memory.iterdir())) == 1
    note.write_text("{}", encoding="utf-8")
    assert astuple(Inspector(Intake(), memory).facts(tmp_path / "b.nii.gz", "scan")) == astuple(
        seen
    )


def test_a_remark_about_a_name_is_not_remembered_for_another_name(tmp_path: Path) -> None:
    inspector = Inspector(Intake(), tmp_path / "memory")
    right, wrong = tmp_path / "a.nii", tmp_path / "a.nii.gz"
    for path in (right, wrong):
        path.write_bytes(content())
    assert inspector.facts(right, "scan").remarks == ()
    assert "does not match the content" in inspector.facts(wrong, "scan").remarks[0]


def test_a_file_that_changes_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.nii.gz")
    monkeypatch.setattr(
        "crossmod.intake.facts.digest_of_image", lambda path: "that of a moment ago"
    )
    with pytest.raises(DataError, match="content: changed while it was being read"):
        Inspector(Intake(), tmp_path / "memory").facts(path, "scan")
    assert not (tmp_path / "memory").exists()


def test_copies_are_seen_however_they_are_stored(tmp_path: Path) -> None:
    inspector = Inspector(Intake())
    stored = [
        write(tmp_path / "a.nii"),
        write(tmp_path / "b.nii.gz"),
        write(tmp_path / "c.nii", data=some_data(kind="f8"), order=">", version=2),
        write(tmp_path / "d.nii", data=(some_data() - 7), scl_slope=1, scl_inter=7),
    ]
    assert len({inspector.facts(path, "scan").pixels for path in stored}) == 1
    other = write(tmp_path / "e.nii", data=some_data() + 1)
    assert inspector.facts(other, "scan").pixels != inspector.facts(stored[0], "scan").pixels


def test_recipes_of_one_run_read_each_file_for_its_digest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.nii.gz")
    read = []
    monkeypatch.setattr(
        "crossmod.intake.facts.digest_of_image", lambda path: read.append(path) or digest_of(path)
    )
    digests: dict[Path, str] = {}
    one, other = Intake(), Intake(nonfinite="zero")
    found = [Inspector(options, None, digests).facts(path, "scan") for options in (one, other)]
    assert read == [path]
    assert digests == {path: digest_of(path)}
    assert {facts.digest for facts in found} == {digests[path]}
