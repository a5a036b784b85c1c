"""`crossmod data check`, and what a run does with the same files."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from processor import rounding
from program import SMOKE, Program
from tiny import Tiny, settings

from crossmod import DataError
from crossmod.data.classes import Classes
from crossmod.intake import Inspector, Intake, Limits, Survey
from crossmod.intake.fix import write_fixed

SOURCE = "crossmoda2022_training/training_source"
TARGET = "crossmoda2022_training/training_target"
HELD_OUT = "crossmoda2022_validation/validation"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    program = Program(folder)
    program("data", "phantom", "data", "--source", "3", "--target", "3", "--validation", "2")
    return folder / "data"


@pytest.fixture
def data(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "data"))


def edit(
    path: Path,
    values: Callable[[np.ndarray], np.ndarray] = lambda values: values,
    affine: Callable[[np.ndarray], np.ndarray] = lambda affine: affine,
) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(values(np.asarray(image.dataobj)), affine(image.affine)), path)


def moved(mm: float) -> Callable[[np.ndarray], np.ndarray]:
    def move(affine: np.ndarray) -> np.ndarray:
        affine[0, 3] += mm
        return affine

    return move


def sheared(affine: np.ndarray) -> np.ndarray:
    affine[:3, 1] += 2e-4 * affine[:3, 0]
    return affine


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def check(data: Path, *more: str | Path, code: int = 0) -> str:
    done = Program(data.parent)("data", "check", SMOKE, "--data", data, *more, code=code)
    return str(done.stdout + done.stderr)


def test_intact_files_pass(data: Path) -> None:
    assert "16 files can be trusted; 0 notes" in check(data)
    assert "16 files can be trusted" in Program(data.parent)("data", "check", data).stdout


def test_all_problems_come_in_one_report(data: Path) -> None:
    cut(data / TARGET / "crossmoda2021_ldn_4_hrT2.nii.gz")
    edit(data / SOURCE / "crossmoda2022_etz_0_Label.nii.gz", affine=moved(3))
    edit(data / SOURCE / "crossmoda2021_ldn_2_Label.nii.gz", lambda labels: labels * 0.5)
    shutil.copy(
        data / TARGET / "crossmoda2022_etz_1_hrT2.nii.gz",
        data / HELD_OUT / "crossmoda2022_etz_2_hrT2.nii.gz",
    )
    (data / "hidden" / "crossmoda2022_etz_2_Label.nii.gz").unlink()
    told = check(data, code=3)
    for words in (
        "4 problems with the data",
        "ldn_4_hrT2.nii.gz: size: truncated: ",
        "etz_0_Label.nii.gz: affine: lies up to 3 mm off",
        "ldn_2_Label.nii.gz: labels: ",
        "etz_2_hrT2.nii.gz: voxels: the same as those of ",
    ):
        assert words in told
    assert "Traceback" not in told


def test_a_run_refuses_the_same_files_before_anything_is_made(data: Path) -> None:
    cut(data / TARGET / "crossmoda2021_ldn_4_hrT2.nii.gz")
    done = Program(data.parent)("run", SMOKE, "--data", data, code=3)
    assert "ldn_4_hrT2.nii.gz: size: truncated: " in done.stderr
    assert not list((data.parent / "runs").rglob("manifest.json"))


def test_what_is_safe_to_correct_is_corrected_in_a_copy(data: Path) -> None:
    scan = data / SOURCE / "crossmoda2021_ldn_1_ceT1.nii.gz"
    labels = data / SOURCE / "crossmoda2021_ldn_1_Label.nii.gz"
    edit(scan, affine=sheared)
    edit(labels, lambda values: values * 1.0000001, sheared)
    edit(data / SOURCE / "crossmoda2022_etz_0_Label.nii.gz", affine=moved(1e-4))
    plain = data / TARGET / "crossmoda2021_ldn_3_hrT2.nii.gz"
    plain.write_bytes(gzip.decompress(plain.read_bytes()))
    before = {path: path.read_bytes() for path in data.rglob("*.gz")}
    fixed = data.parent / "fixed"
    told = check(data, "--fix", fixed)
    for words in ("tiny shear", "rounded to whole numbers", "set to that of its scan",
                  "rewritten to match the name", "4 of 16 files corrected"):  # fmt: skip
        assert words in told
    assert "16 files can be trusted; 0 notes" in check(fixed)
    assert {path: path.read_bytes() for path in data.rglob("*.gz")} == before
    for path in (scan, labels, plain):
        old = np.asarray(nibabel.load(path).dataobj) if path != plain else None
        new = nibabel.load(fixed / path.relative_to(data))
        if old is not None:
            np.testing.assert_allclose(np.asarray(new.dataobj), old, rtol=rounding(8))
    axes = nibabel.load(fixed / scan.relative_to(data)).affine[:3, :3]
    axes /= np.linalg.norm(axes, axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=rounding(8))


def test_what_has_problems_is_left_out_of_the_copy(data: Path) -> None:
    far = data / SOURCE / "crossmoda2022_etz_0_Label.nii.gz"
    edit(far, affine=moved(20))
    edit(data / SOURCE / "crossmoda2021_ldn_1_Label.nii.gz", affine=moved(1e-4))
    broken = data / TARGET / "crossmoda2021_ldn_4_hrT2.nii.gz"
    cut(broken)
    told = check(data, "--fix", data.parent / "fixed", code=3)
    assert "1 of 14 files corrected; files with problems are left out" in told
    there = {path.relative_to(data.parent / "fixed") for path in (data.parent / "fixed").rglob("*")}
    missing = {path.relative_to(data) for path in data.rglob("*")} - there
    assert missing == {far.relative_to(data), broken.relative_to(data)}


def test_a_label_map_that_a_run_resamples_is_copied_as_it_is(data: Path) -> None:
    far = data / SOURCE / "crossmoda2022_etz_0_Label.nii.gz"
    edit(far, affine=moved(3))
    fixed = data.parent / "fixed"
    told = check(data, "--fix", fixed, "--set", "intake.resample_labels=true")
    assert "; resampled" in told
    assert "0 of 16 files corrected" in told
    assert (fixed / far.relative_to(data)).read_bytes() == far.read_bytes()


def test_other_files_are_copied_and_links_are_told(data: Path) -> None:
    (data / "notes.txt").write_text("kept", encoding="utf-8")
    (data / "link").symlink_to(data.parent)
    (data / "file").symlink_to(data / "notes.txt")
    os.mkfifo(data / "pipe")
    fixed = data.parent / "fixed"
    told = check(data, "--fix", fixed)
    assert (fixed / "notes.txt").read_text(encoding="utf-8") == "kept"
    assert (fixed / SOURCE).with_name("infos_source_training.csv").is_file()
    for name, why in (("link", "a link"), ("file", "a link"), ("pipe", "not a regular file")):
        assert f"{data / name}: not copied: {why}" in told
        assert not (fixed / name).exists()


def test_a_full_disk_leaves_no_copy_behind(data: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    fixed = data.parent / "fixed"
    program = Path(sys.executable).parent / "crossmod"
    done = subprocess.run(
        [program, "data", "check", SMOKE, "--data", data, "--fix", fixed],
        capture_output=True, text=True, preexec_fn=little_room,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert "fixed: cannot be written: File too large" in done.stderr
    assert [path.name for path in data.parent.iterdir()] == ["data"]
    assert "0 of 16 files corrected" in check(data, "--fix", fixed)


def test_a_copy_obeys_the_limits_of_the_recipe(data: Path) -> None:
    path = data / SOURCE / "crossmoda2021_ldn_1_ceT1.nii.gz"
    edit(path, affine=sheared)
    survey = Survey((), Classes({}))
    survey.facts[path] = Inspector(Intake()).facts(path, "scan")
    with pytest.raises(DataError, match=r"ldn_1_ceT1\.nii\.gz: dim: "):
        write_fixed(survey, data, data.parent / "fixed", Limits(max_voxels=1))
    assert [path.name for path in data.parent.iterdir()] == ["data"]
    assert "tiny shear" in write_fixed(survey, data, data.parent / "fixed", Limits())[0]


def test_a_folder_without_a_recipe_is_never_changed_on_a_guess(data: Path) -> None:
    few = (np.random.default_rng(0).random((8, 7, 6)) * 9e-4).astype("f4")
    path = data / "labels" / "T1map.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(few, np.diag([2.0, 2, 2, 1])), path)
    (data / "._a.nii.gz").write_bytes(b"x")
    told = Program(data.parent)("data", "check", data, "--fix", data.parent / "fixed").stdout
    assert f"{path}: labels: values are not quite whole numbers; treated as a scan" in told
    assert "17 files can be trusted" in told
    assert (data.parent / "fixed" / path.relative_to(data)).read_bytes() == path.read_bytes()


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    long = "x" * 300
    assert f"{long}: does not exist" in Program(tmp_path)("data", "check", long, code=2).stderr
    data = tmp_path / "data"
    data.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.arange(504.0).reshape(7, 8, 9), np.eye(4)), data / "a.nii")
    told = Program(tmp_path)("data", "check", data, "--fix", tmp_path / long, code=4).stderr
    assert "cannot be written: File name too long" in told


def test_files_that_were_seen_before_are_not_read_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = next(data.rglob("*_hrT2.nii.gz")), data.parent / "memory"
    first = Inspector(Intake(), memory).facts(path, "scan")
    monkeypatch.setattr("crossmod.intake.facts.load_scan", None)
    assert Inspector(Intake(), memory).facts(path, "scan") == first
    [note] = memory.iterdir()
    assert str(data) not in note.read_text(encoding="utf-8")
    note.write_text(json.dumps({"digest": "torn"}), encoding="utf-8")
    with pytest.raises(TypeError):
        Inspector(Intake(), memory).facts(path, "scan")


def test_what_was_odd_is_said_by_a_run_and_stands_in_its_report(data: Path) -> None:
    path = data / TARGET / "crossmoda2021_ldn_3_hrT2.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    tiny = Tiny(data.parent)
    few = ["--data", data, *settings("translate=false", "augment=false", "pseudo_label=false")]
    said = tiny.go(*few)
    words = "does not match the content, which is plain NIfTI"
    assert words in said
    assert words in (tiny.result.folder / "report.html").read_text(encoding="utf-8")
    assert "prepare-target" in tiny.go(*few, "--dry-run")
