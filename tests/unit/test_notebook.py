"""What is wrong with folders that are opened as runs.

Whole runs are opened in `tests/integration/test_api.py`.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_model import _level, a_run  # noqa: F401  # the plugin "level" of this module

import crossmod
from crossmod import DataError
from crossmod.files.outputs import Outputs
from crossmod.notebook import attempt
from crossmod.notebook.figure import Curves
from crossmod.progress import looks
from crossmod.progress.state import RunEnd, RunState, write_state
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


def telling(folder: Path, state: RunEnd, error: str = "") -> None:
    """Write what an attempt told, the last time a minute ago."""
    told = time.time() - 60
    write_state(
        folder,
        RunState(title="Again", state=state, host="h", process=1, began=told, told=told, done=5,
                 steps=528, error=error),
    )  # fmt: skip


def a_step(folder: Path, key: str, inputs: Mapping[str, str]) -> None:
    folder.mkdir()
    manifest = {"key": key, "files": {}, "content": {"inputs": inputs}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def run_again(folder: Path) -> crossmod.OpenRun:
    """A finished run, and what a later attempt with another translator left beside it."""
    run = opened(folder)
    for model in folder.glob("*-?"):
        content = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
        content["content"] = {"inputs": {"translate-gan": "old"}}
        (model / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        model.rename(folder / f"18-{model.name}")
    facts = (folder / "run.json").read_text(encoding="utf-8")
    for stage in ("oracle", "augmented", "round-1"):
        facts = facts.replace(f'"folder": "{stage}-', f'"folder": "18-{stage}-')
    (folder / "run.json").write_text(facts, encoding="utf-8")
    a_step(folder / "17-translate-gan", "old", {"prepare-source": "same"})
    a_step(folder / "20-predict-round-1", "p-old", {"round-1-0": "round-10"})
    a_step(folder / "02-prepare-source", "same", {})
    a_step(folder / "213-translate-gan", "new", {"prepare-source": "same"})
    a_step(folder / "214-predict-round-1", "p-new", {"round-1-0": "another"})
    a_step(folder / "215-train-more", "more", {"translate-gan": "new"})
    return run


def test_steps_are_those_of_the_run_that_finished(tmp_path: Path) -> None:
    run = run_again(tmp_path / "run")
    telling(run.folder, "failed", "step train: no memory\n  use less")
    assert run.step("gan").folder == run.folder / "17-translate-gan"
    assert run.step("predict-round-1").folder == run.folder / "20-predict-round-1"
    assert "train-more" not in run.steps
    assert run.steps[:2] == ["prepare-source", "translate-gan"]  # 2 before 17
    assert run.model().facts.stage == "round-1"
    assert (run.finished, run.state, run.error) == (
        True,
        "failed",
        "step train: no memory\n  use less",
    )
    html = run._repr_html_()
    for told in ("failed; these are results of an earlier run", "no memory", run.title):
        assert told in html
    with pytest.raises(DataError) as caught:
        run.step("more")
    assert caught.value.fix == "the last attempt failed: step train: no memory"


def test_a_step_that_a_later_attempt_replaced_is_not_taken_for_it(tmp_path: Path) -> None:
    run = run_again(tmp_path / "run")
    telling(run.folder, "interrupted")
    shutil.rmtree(run.folder / "17-translate-gan")
    with pytest.raises(DataError, match="'gan' is not a step of this run"):
        run.step("gan")


@pytest.mark.parametrize(
    ("told", "heard", "state", "fix"),
    [
        ("working", True, "running", "crossmod watch"),
        ("working", False, "unfinished", "rerun its recipe"),
        ("interrupted", False, "interrupted", "rerun its recipe"),
        ("failed", False, "failed", "the last attempt failed: too bad"),
        (None, False, "unfinished", "rerun its recipe"),
    ],
)
def test_a_run_without_results_says_how_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: RunEnd | None,
    heard: bool,
    state: str,
    fix: str,
) -> None:
    run = crossmod.open_run(begun_in(tmp_path / "run"))
    if told:
        telling(run.folder, told, "too bad" if told == "failed" else "")
    monkeypatch.setattr(looks, "SURE_S", 0.0)
    if heard:
        monkeypatch.setattr(looks.Silence, "seconds", lambda self, state: 0.0)
        monkeypatch.setattr(looks.Silence, "heard", True, raising=False)
        monkeypatch.setattr(looks.Silence, "__init__", lambda self: None)
    assert run.state == state
    html = run._repr_html_()
    assert f">{state}<" in html
    assert ("too bad" in html) == (told == "failed")
    assert run.title == ("Again" if told else "run")
    with pytest.raises(DataError) as caught:
        run.model()
    assert fix in caught.value.fix
    assert "rerun" not in caught.value.fix or state != "running"


def test_a_variant_tells_the_state_of_its_run(tmp_path: Path) -> None:
    Outputs(tmp_path / "run", "the run of mine.toml").claim()
    begun_in(tmp_path / "run" / "one")
    telling(tmp_path / "run", "failed", "no")
    both = crossmod.open_run(tmp_path / "run")
    assert (both.state, both.runs["one"].state, both.title) == ("failed", "failed", "Again")
    with pytest.raises(DataError, match="holds several runs"):
        both.model()


def test_what_an_attempt_told_in_another_format_is_left_alone(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    (run.folder / ".progress.json").write_text("{}", encoding="utf-8")
    assert attempt.last_told(run.folder) is None
    assert run.state == "finished"


def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("folder", lambda: crossmod.open_run(None)),  # type: ignore[arg-type]
        ("recipe", lambda: crossmod.run({"title": "a"})),  # type: ignore[operator]
        ("out", lambda: crossmod.run("smoke", out=5)),  # type: ignore[operator]
    ]
    for name, call in calls:
        with pytest.raises(DataError, match="is not a path") as caught:
            call()
        assert caught.value.where == name
    run = begun_in(tmp_path / "run")
    with pytest.raises(DataError, match="is a file of a run folder") as caught:
        crossmod.open_run(run / EVENTS)
    assert caught.value.fix == f"name {run}"


def test_no_text_of_what_a_notebook_shows_is_long() -> None:
    volume = crossmod.Volume.of(np.random.rand(1, 8, 8, 5), np.eye(4), case="a")
    shown = (crossmod.animate(volume), Curves("fit", {"loss": ([1.0] * 999, [2.0] * 999)}))
    assert max(len(repr(one)) for one in shown) < 100
