"""The race of benchmarks/ runs: every work but whole programs, and the harness around two."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from crossmod_singan_gba import SinganGbaOptions

from racing.contestants import Contestant, Sample
from racing.limits import Limit, Limits
from racing.rounds import Result, race
from racing.table import BEFORE, OURS, Raced, page, share_of_limit
from racing.turns import Turns
from racing.works import Work, works

RACE = Path(__file__).parents[2] / "benchmarks" / "race.py"
WORKS = [work for work in works() if not work.call.startswith("ours.programs:")]


@pytest.fixture(autouse=True)
def untouched_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict, warn_only=lenient)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_crossmod_does_every_work(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = work.settings.get("schedule", "paper")
    if schedule != "paper" and "schedule" not in SinganGbaOptions.model_fields:
        pytest.skip("this commit has one schedule")
    monkeypatch.chdir(tmp_path)
    counts = work.limit == "network"
    answers = io.StringIO()
    turns = Turns(io.StringIO(json.dumps({"seconds": 0, "count": counts}) + "\n"), answers)
    settings = {**work.settings, **work.small} | ({"threads": 1} if work.takes_threads else {})
    module, _, name = work.call.partition(":")
    with pytest.raises(SystemExit):  # after the last turn
        getattr(import_module(module), name)(turns, **settings)
    ready, said = map(json.loads, answers.getvalue().splitlines())
    assert ready == {"ready": True}
    assert said["seconds"] > 0
    assert (said["operations"] > 0) == counts


def test_one_command_prints_the_page(tmp_path: Path) -> None:
    names = ["metrics-tumor", "write-nii"]
    kept = tmp_path / "samples.json"
    command = [sys.executable, RACE, "--smoke", "--json", kept, "--only", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "the figures say nothing" in done.stdout
    assert "does not run" not in done.stdout
    assert "| copy |  |" in done.stdout
    assert [one["work"] for one in json.loads(kept.read_text())] == names


def test_contestants_take_turns_and_may_fail(tmp_path: Path) -> None:
    good = {"shape": [8, 8, 4], "radius": 0.5}
    contestants = {
        OURS: Contestant("ours.metrics:dice_and_assd", good, 1, tmp_path / "a"),
        "wrong": Contestant("ours.metrics:nothing", {}, 1, tmp_path / "b"),
        "gone": Contestant("os:_exit", {}, 1, tmp_path / "c"),
    }
    results = race(contestants, 2, 0.0)
    assert len(results[OURS].samples) == 2
    assert "nothing" in results["wrong"].trouble
    assert results["gone"].trouble


def test_disturbed_samples_are_taken_again() -> None:
    disturbances = iter([0.0, 0.3, 0.05, 0.5, 0.2, 0.4])

    class Recorded(Contestant):
        def __enter__(self) -> Contestant:
            return self

        def __exit__(self, *error: object) -> None: ...

        def get_ready(self) -> None: ...

        def turn(self, seconds: float, *, count: bool = False) -> Sample:
            return sample(1.0, disturbance=next(disturbances))

    [result] = race({OURS: Recorded("", {}, 1, Path())}, 2, 0.0).values()
    assert [one.disturbance for one in result.samples] == [0.05, 0.2]


def sample(seconds: float, disturbance: float = 0.0) -> Sample:
    return Sample(seconds, disturbance, 0.0, "fp32", 0, seconds)


def test_the_table_shows_paired_ratios() -> None:
    work = works()[0]
    results = {
        OURS: Result([sample(1.0), sample(2.0), sample(1.0)]),
        BEFORE: Result([sample(3.0), sample(4.0), sample(2.0)]),
        "nnU-Net": Result([sample(8.0), sample(20.0), sample(5.0)]),
    }
    *_, row, _, quiet = page([Raced(work, 2, results)], Limits(), small=False)
    assert row == (f"| {work.title} | nnU-Net 8 s | 1 s | 8 (5 to 10) |  | 3 s | 2 (2 to 3) |")
    assert quiet.endswith("0 of 9 samples, 0% at most.")


def test_a_peer_that_does_not_run_is_shown_as_such() -> None:
    work = works()[0]
    results = {OURS: Result([sample(1.0)]), "nnU-Net": Result(trouble="No module\nnamed x")}
    *_, row, _, _ = page([Raced(work, 2, results)], Limits(), small=False)
    assert "nnU-Net does not run: No module named x | 1 s |  |" in row


def test_the_share_of_the_limit_is_that_of_the_number_format() -> None:
    limits = Limits([Limit("a", "fp32", 2, 100.0), Limit("b", "bf16", 2, 400.0)])
    work = next(work for work in works() if work.limit == "network")
    found = Raced(work, 2, {OURS: Result([sample(2.0)], operations=100.0)})
    assert share_of_limit(found, limits) == "50%"
    assert share_of_limit(found, Limits()) == ""
