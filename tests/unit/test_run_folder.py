"""The folder people look at shows results, and nothing of anybody else goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossmod import DataError
from crossmod.files.atomic import published
from crossmod.files.ledger import LEDGER
from crossmod.files.outputs import Outputs
from crossmod.run.folder import RunFolder


def result(store: Path, key: str) -> Path:
    """A stored result with two files."""
    with published(store / key, {"key": key}) as draft:
        (draft / "images").mkdir()
        (draft / "images" / "a.nii").write_text(f"voxels {key}", encoding="utf-8")
        (draft / "about.json").write_text("{}", encoding="utf-8")
    return store / key


@pytest.fixture(params=["linked", "copied"])
def shown(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with two results, on the disk of the store or on another."""

    def apart(*_: object) -> None:
        raise OSError(18, "another disk")

    if request.param == "copied":
        monkeypatch.setattr(os, "link", apart)
    folder = of_run(tmp_path)
    folder.outputs.claim()
    for name, key in (("01-fit", "k1"), ("02-use", "k2")):
        folder.show(name, key, result(tmp_path / "store", key))
    return folder.folder


def of_run(tmp_path: Path) -> RunFolder:
    return RunFolder(Outputs(tmp_path / "run", "the run of r"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_results_of_the_hundredth_step_go_like_all_others(tmp_path: Path) -> None:
    folder = of_run(tmp_path)
    folder.outputs.claim()
    folder.show("100-use", "k1", result(tmp_path / "store", "k1"))
    (folder.folder / ".100-use.77.0123abcd").mkdir()  # of a run that was killed
    folder.keep([])
    assert {path.name for path in folder.folder.iterdir()} == {LEDGER}


def test_another_result_takes_the_place_of_the_old_one(shown: Path, tmp_path: Path) -> None:
    folder = of_run(tmp_path)
    draft = shown / ".01-fit.77.0123abcd"  # of a run that was killed
    draft.mkdir()
    (shown / "01-fit" / ".DS_Store").touch()
    folder.require({"01-fit": "k3"})
    folder.show("01-fit", "k3", result(tmp_path / "store", "k3"))
    folder.keep(["01-fit"])
    assert names(shown) == ["01-fit"]
    assert not draft.exists()
    assert (shown / "01-fit" / "images" / "a.nii").read_text(encoding="utf-8") == "voxels k3"
    assert (tmp_path / "store" / "k1" / "images" / "a.nii").exists()


def test_files_of_somebody_else_stay(shown: Path, tmp_path: Path) -> None:
    folder = of_run(tmp_path)
    corrected = shown / "02-use" / "images" / "a.nii"
    corrected.unlink()
    corrected.write_text("drawn", encoding="utf-8")
    added = shown / "01-fit" / "notes.txt"
    added.touch()
    folder.require({"01-fit": "k1", "02-use": "k2"})  # all stays
    with pytest.raises(DataError) as caught:
        folder.require({"01-fit": "k3"})
    assert str(corrected) in str(caught.value)
    assert str(added) in str(caught.value)
    new = result(tmp_path / "store", "k3")
    with pytest.raises(DataError, match=r"notes\.txt"):
        folder.show("01-fit", "k3", new)
    with pytest.raises(DataError, match=r"a\.nii"):
        folder.keep(["01-fit"])
    assert corrected.read_text(encoding="utf-8") == "drawn"
    assert added.exists()
    assert names(shown) == ["01-fit", "02-use"]


def test_a_folder_that_is_called_like_a_step_is_not_taken_for_one(
    shown: Path, tmp_path: Path
) -> None:
    folder = of_run(tmp_path)
    mine = shown / "03-more" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    folder.require({"01-fit": "k1"})
    folder.keep(["01-fit"])
    assert names(shown) == ["01-fit", "03-more"]
    with pytest.raises(DataError, match=r"mine\.txt"):
        folder.require({"03-more": "k1"})
    (shown / "events.jsonl").symlink_to(tmp_path / "log")
    with pytest.raises(DataError, match=r"events\.jsonl"):
        folder.require({})


@pytest.mark.parametrize("manifest", ["{}", '{"files": ["a"]}', '{"key": "k1", "files": {}}', ""])
def test_a_manifest_of_somebody_else_makes_no_folder_the_runs_own(
    manifest: str, shown: Path, tmp_path: Path
) -> None:
    folder = of_run(tmp_path)
    mine = shown / "40-mine" / "manifest.json"
    mine.parent.mkdir()
    mine.write_text(manifest, encoding="utf-8")
    folder.require({"01-fit": "k1"})
    folder.keep(["01-fit"])
    assert mine.read_text(encoding="utf-8") == manifest
    with pytest.raises(DataError, match=r"40-mine/manifest\.json"):
        folder.require({"40-mine": "k2"})
    with pytest.raises(DataError, match=r"40-mine/manifest\.json"):
        folder.show("40-mine", "k2", result(tmp_path / "store", "k3"))


def test_hidden_files_of_somebody_else_stay(shown: Path, tmp_path: Path) -> None:
    folder = of_run(tmp_path)
    for note in (shown / "02-use" / ".notes", shown / "02-use" / ".mine" / "notes"):
        note.parent.mkdir(exist_ok=True)
        note.touch()
        with pytest.raises(DataError, match=note.name):
            folder.require({"01-fit": "k1"})
        with pytest.raises(DataError, match=note.name):
            folder.keep(["01-fit"])
        note.unlink()


def test_a_changed_manifest_is_somebody_elses(shown: Path, tmp_path: Path) -> None:
    manifest = shown / "02-use" / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.unlink()
    manifest.write_text(text.replace('"key"', '"note": "mine", "key"'), encoding="utf-8")
    of_run(tmp_path).keep(["01-fit"])
    assert names(shown) == ["01-fit", "02-use"]


def test_a_removal_that_was_cut_short_does_not_stop_the_next_run(
    shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_run(tmp_path)

    def cut(path: Path, **_: object) -> None:
        (path / "manifest.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        folder.keep(["01-fit"])
    monkeypatch.undo()
    folder.require({"02-use": "k2"})
    folder.show("02-use", "k2", tmp_path / "store" / "k2")
    folder.keep(["02-use"])
    assert sorted(path.name for path in shown.iterdir()) == [LEDGER, "02-use"]
