"""What `crossmod data check DIR` takes files for, of which no recipe says what they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from nifti_files import some_data, write

from crossmod import DataError
from crossmod.intake import Intake
from crossmod.intake.guess import Folder, Guesser

NOBODY = 65534
LABELS = (some_data() > 80).astype("u1")


def kinds(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): kind for path, kind, _ in Folder.of(root).files}


def put(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, **options)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("case_1_Label.nii.gz", "labels"),
        ("labelsTr/case_1.nii.gz", "labels"),
        ("LABELS/case_1.nii", "labels"),
        ("anat/sub-1_dseg.nii.gz", "labels"),
        ("case-seg2.nii.gz", "labels"),
        ("masks/a.nii.gz", "labels"),
        ("hidden/a.nii.gz", "labels"),
        ("imagesTr/a_0000.nii.gz", "scan"),
        ("unlabeled/scan.nii.gz", "scan"),
        ("T1_masked.nii.gz", "scan"),
        ("sub-1_desc-unsegmented_T1w.nii.gz", "scan"),
        ("labels/more/a.nii.gz", "scan"),
    ],
)
def test_whole_words_say_that_a_file_is_a_label_map(name: str, kind: str, tmp_path: Path) -> None:
    put(tmp_path / name)
    assert kinds(tmp_path) == {name: kind}


def test_hidden_files_are_passed_over_and_capitals_are_not(tmp_path: Path) -> None:
    for name in ("A.NII.GZ", "b.NII", "._a.nii.gz", ".git/c.nii"):
        put(tmp_path / name)
    assert list(kinds(tmp_path)) == ["A.NII.GZ", "b.NII"]
    facts = Guesser(Intake()).facts(tmp_path / "b.NII", "scan")
    assert facts.remarks == ()
    packed = put(tmp_path / "c.nii.gz").rename(tmp_path / "A.NII.GZ")
    assert Guesser(Intake()).facts(packed, "scan").remarks == ()


@pytest.mark.timeout(60)  # opening a pipe waits for ever
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Folder.of(tmp_path).files == []


def test_linked_folders_are_told_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "root" / "a.nii.gz")
    put(tmp_path / "elsewhere" / "b.nii.gz")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    assert list(kinds(tmp_path / "root")) == ["a.nii.gz"]
    assert Folder.of(tmp_path / "root").links == [tmp_path / "root" / "link"]


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that its user may not read, beside one that may be."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        put(folder / "open" / "a.nii.gz")
        put(folder / "locked" / "b.nii.gz")
        (folder / "locked").chmod(0)
        root = os.geteuid() == 0
        if root:
            folder.chmod(0o755)
            os.seteuid(NOBODY)
        yield folder
        if root:
            os.seteuid(0)
        (folder / "locked").chmod(0o700)


def test_folders_that_cannot_be_read_are_problems(locked: Path) -> None:
    found = Folder.of(locked)
    assert [path.name for path, _, _ in found.files] == ["a.nii.gz"]
    expected = f"{locked / 'locked'}: folder: cannot be read: Permission denied"
    assert found.problems == [expected]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (some_data() * 20, "values from 0 to 1980"),
        (some_data(kind="f4") / 3, "voxels such as "),
        (some_data(kind="f4") * 1e-5, "values are not quite whole numbers"),
        (LABELS * 1.0000001, "values are not quite whole numbers"),
    ],
)
def test_a_label_map_by_name_only_is_taken_for_a_scan(
    data: np.ndarray, told: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a_label.nii.gz", data=data)
    facts = Guesser(Intake()).facts(path, "labels")
    assert facts.kind == "scan"
    [remark] = facts.remarks
    assert remark.startswith("labels: ")
    assert told in remark
    assert remark.endswith("treated as a scan, although its name suggests a label map")


def test_a_label_map_by_name_and_content_stays_one(tmp_path: Path) -> None:
    for data in (LABELS, LABELS * 0, LABELS.astype("f8")):
        facts = Guesser(Intake()).facts(write(tmp_path / "a_label.nii.gz", data=data), "labels")
        assert (facts.kind, facts.remarks) == ("labels", ())


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    data = some_data(kind="f4")
    data[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="1 of 336 are NaN"):
        Guesser(Intake()).facts(write(tmp_path / "a_label.nii.gz", data=data), "labels")
