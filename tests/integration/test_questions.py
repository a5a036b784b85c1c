"""The pages that answer questions of users: what they tell to call is called on a finished run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from tiny import Tiny

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
SOURCES = Path(__file__).parents[2] / "crossmod"
PAGES = (
    *("unlabeled-scans", "geometry", "out-of-memory", "a-worker-died", "results-differ"),
    *("probabilities", "which-epoch", "image-formats", "own-classes", "train-longer"),
    "choose-a-method",
)
RECIPE = "mine.toml"
CALIBRATED = ("package", "runs/mine", "model", "--calibrate")


def text_of(page: str) -> str:
    return (HOW_TO / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text_of(page), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def calls(page: str) -> list[tuple[str, ...]]:
    """What `crossmod` is called with, in order."""
    lines = "".join(blocks(page, "sh")).splitlines()
    return [(*shlex.split(line)[1:],) for line in lines if line.startswith("crossmod ")]


def trains(call: tuple[str, ...]) -> bool:
    return "run" in call


def desk_of(finished: Tiny, folder: Path) -> Tiny:
    """A folder as the pages assume it: a finished run of mine.toml, and the data folder DIR."""
    desk = Tiny(folder)
    shutil.copytree(finished.result.folder, folder / "runs" / "mine")
    shutil.copytree(finished.store, desk.store)
    shutil.copyfile(folder / "tiny.toml", folder / RECIPE)
    [cohort] = finished.result.folder.glob("*-phantom")
    shutil.copytree(cohort, folder / "DIR")
    shutil.copytree(cohort / "crossmoda2022_validation" / "validation", folder / "scans")
    return desk


def test_commands_that_train_nothing_do_what_the_pages_say(
    undisturbed: Tiny, tmp_path: Path
) -> None:
    desk = desk_of(undisturbed, tmp_path / "desk")
    once = dict.fromkeys(call for page in PAGES for call in calls(page))
    printed = {call: desk(*call).stdout for call in once if not trains(call) and call != CALIBRATED}
    assert len(printed) >= 9
    assert json.loads(printed["doctor", "--json"])
    assert len([*(desk.folder / "outlines").glob("*.nii.gz")]) == 2
    assert len([*(desk.folder / "NEW").rglob("*.nii.gz")]) > 4
    assert CALIBRATED in once  # the run of this test has one fold
    shutil.rmtree(desk.folder / "model")
    assert "set folds" in desk(*CALIBRATED, code=3).stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(trains, calls(page)))])
def test_runs_do_what_the_page_says(page: str, prepared: Tiny) -> None:
    """With the recipe of the page where it has a whole one, over the tiny one."""
    recipes = [text for text in blocks(page, "toml") if 'extends = "quickstart"' in text]
    given = recipes[0] if recipes and page != "results-differ" else 'extends = "quickstart"\n'
    given = given.replace('"quickstart"', '"tiny"').replace("seeds = [1, 2, 3]", "seeds = [1]")
    given = given.replace("folds = 3", "folds = 2")  # it has two patients
    (prepared.folder / RECIPE).write_text(given, encoding="utf-8")
    [cohort] = prepared.store.glob("??/*/crossmoda2022_training")
    shutil.copytree(cohort.parent, prepared.folder / "DIR")
    for call in filter(trains, calls(page)):
        prepared(*call, "--profile", "profile.toml")


def test_the_step_where_two_runs_part_is_found(
    undisturbed: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("one", "other"):
        shutil.copytree(undisturbed.result.folder, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    [code] = blocks("results-differ", "python")
    exec(code, {})
    assert capsys.readouterr().out == ""
    for step in ("translate-gan-fit", "translate-gan", "train-augmented"):
        [folder] = Path("runs/other").glob(f"[0-9]*-{step}")
        manifest = folder / "manifest.json"
        text = manifest.read_text(encoding="utf-8")
        manifest.unlink()
        manifest.write_text(text.replace('"key": "', '"key": "0'), encoding="utf-8")
    exec(code, {})
    assert capsys.readouterr().out == "translate-gan-fit\n"


def test_a_stack_of_16_bits_becomes_a_file_that_says_how_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    voxels = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6) * 500
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), "stack.tif")
    [code] = blocks("image-formats", "python")
    exec(code, {})
    scan = nibabel.load("scan.nii.gz")
    assert nibabel.aff2axcodes(scan.affine) == ("L", "P", "S")
    assert np.array_equal(np.asarray(scan.dataobj), voxels.transpose(2, 1, 0))
    assert scan.get_data_dtype() == np.uint16


@pytest.mark.parametrize("page", ["a-worker-died", "geometry"])
def test_messages_that_a_page_explains_exist(page: str) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    rows = re.findall(r"^\| ([^|]*) \|", text_of(page), re.MULTILINE)
    quoted = [part for row in rows for code in re.findall("`([^`]*)`", row)
              for part in re.split("…|NaN|[(].*", code)]  # fmt: skip
    told = [part.strip() for part in quoted if len(part.strip()) > 12 and "." not in part]
    assert len(told) >= 2
    for part in told:
        assert part in sources, part
