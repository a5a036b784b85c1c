"""What is wrong with folders that are opened as runs.

Whole runs are opened in `tests/integration/test_api.py`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_model import _level, a_run  # noqa: F401  # the plugin "level" of this module

import crossmod
from crossmod import DataError
from crossmod.files.outputs import Outputs
from crossmod.run.folder import EVENTS


def begun_in(folder: Path) -> Path:
    """A folder that a run has begun to fill."""
    Outputs(folder, "the run of mine.toml").claim()
    (folder / EVENTS).touch()
    (folder / "01-translate-gan-fit").mkdir()
    (folder / "02-translate-gan").mkdir()
    return folder


def test_runs_side_by_side_are_not_one_run(tmp_path: Path) -> None:
    one, other = begun_in(tmp_path / "one"), begun_in(tmp_path / "two")
    with pytest.raises(DataError, match="is not a run folder, but holds some") as caught:
        crossmod.open_run(tmp_path)
    assert caught.value.allowed == f"{one}, {other}"


def test_variants_and_seeds_are_one_run(tmp_path: Path) -> None:
    Outputs(tmp_path / "run", "the run of mine.toml").claim()
    for name in ("one", "two"):
        begun_in(tmp_path / "run" / name)
    for folder in (tmp_path / "run", shutil.copytree(tmp_path / "run", tmp_path / "copied")):
        assert [*crossmod.open_run(folder).runs] == ["one", "two"]


def test_what_is_not_there_yet_may_come(tmp_path: Path) -> None:
    run = crossmod.open_run(begun_in(tmp_path / "run"))
    with pytest.raises(DataError, match="'segment' is not a step") as caught:
        run.step("segment")
    assert "has not ended" in caught.value.fix
    (run.folder / "03-train-gan").mkdir()
    with pytest.raises(DataError, match="'gan' fits several steps") as caught:
        crossmod.open_run(run.folder).step("gan")
    assert caught.value.fix == ""  # they are there
    (run.folder / "run.json").touch()
    with pytest.raises(DataError, match="'segment' is not a step") as caught:
        run.step("segment")
    assert caught.value.fix == ""


def opened(folder: Path) -> crossmod.OpenRun:
    (a_run(folder) / EVENTS).touch()
    return crossmod.open_run(folder)


def test_a_stage_that_is_none_is_told_without_a_command_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no stage 'nope'") as caught:
        opened(tmp_path / "run").model("nope")
    assert caught.value.allowed == "oracle, augmented, round-1"
    assert "--" not in caught.value.fix


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("recipe.lock.toml", "title", "is not TOML"),
        ("recipe.lock.toml", "seed = 1", "title: Field required"),
        ("metrics.csv", "", "is empty"),
        ("metrics.csv", "\n\n", "is empty"),
        ("metrics.csv", "a,b\n1,2\n3\n", "metrics.csv:3: has 1 cell\n  allowed: 2, as the header"),
        ("metrics.csv", "a,b\n1,2,3\n", "metrics.csv:2: has 3 cells"),
    ],
)
def test_damaged_files_of_an_opened_run_are_named(
    tmp_path: Path, file: str, content: str, what: str
) -> None:
    run = opened(tmp_path / "run")
    (run.folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run.scores() if file == "metrics.csv" else run.title
    assert str(run.folder / file) in caught.value.where
    assert what in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
@pytest.mark.parametrize(
    ("file", "ask"),
    [
        ("manifest.json", lambda step: step.seconds),
        ("cohort.json", lambda step: step.cohort()),
        ("training.jsonl", lambda step: step.metrics()),
    ],
)
def test_damaged_files_of_a_step_are_named(
    tmp_path: Path, file: str, ask: Callable[[crossmod.OpenStep], Any], content: str
) -> None:
    folder = begun_in(tmp_path / "run") / "02-translate-gan"
    wrong = "nothing\n" if file == "training.jsonl" else content
    (folder / file).write_text(wrong, encoding="utf-8")
    with pytest.raises(DataError, match="is damaged") as caught:
        ask(crossmod.open_run(tmp_path / "run").step("translate-gan"))
    assert caught.value.where == str(folder / file)


def test_numbers_that_are_not_known_are_nan(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    (run.folder / "metrics.csv").write_text("case,dice\n01,0.5\n02,\n\n", encoding="utf-8")
    rows = run._rows("metrics")
    assert [row["case"] for row in rows] == ["01", "02"]
    assert math.isnan(rows[1]["dice"])
