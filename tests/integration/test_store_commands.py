"""`crossmod runs` and `crossmod gc` around real runs. Rows C05, C08 and C10 of the fault matrix."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from program import Program
from tiny import RECIPE, Tiny

from crossmod.files.ledger import LEDGER
from crossmod.store.store import Store

OTHER = ("--out", "runs/other", "--set", "pseudo_label.min_confidence=0.1")
"""Another run in the same store; it shares all that comes before self-training."""


def row_of(program: Program, name: str, *more: str | Path) -> list[str]:
    """What `crossmod runs` says of a run folder or of a kind of thing in the store."""
    lines = program("runs", *more).stdout.splitlines()
    [row] = [line.split() for line in lines if line.split()[: len(name.split())] == name.split()]
    return row


def state_of(program: Program, name: str) -> str:
    """The state that `crossmod runs` shows for a run of the tiny recipe."""
    folder, title, state, *_ = row_of(program, name)
    assert (folder, title) == (name, "Tiny")
    return state


def train_again(tiny: Tiny, step: str, **variables: str) -> forked.Command:
    """Start the tiny run, with a result removed from the store."""
    keys = {row["step"]: row["key"] for row in tiny.result.events()}
    shutil.rmtree(tiny.store / keys[step][:2] / keys[step])
    return tiny.fork("--workers", "1", **variables)


@pytest.fixture(scope="session")
def finished_pair(undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    pair = Tiny(tmp_path_factory.mktemp("pair"))
    shutil.copytree(undisturbed.folder, pair.folder, dirs_exist_ok=True)
    pair.go(*OTHER)
    return pair


@pytest.fixture
def two(finished_pair: Tiny, tmp_path: Path) -> Tiny:
    """Two finished runs with one store."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", finished_pair.folder, copy], check=True)  # keeps hard links
    return Tiny(copy)


def test_gc_removes_what_only_a_removed_run_needed(two: Tiny, undisturbed: Tiny) -> None:
    both = two.digests()
    assert state_of(two, "runs/tiny") == state_of(two, "runs/other") == "finished"
    assert "Nothing to remove" in two("gc").stdout

    (two.folder / "runs" / "other").rename(two.folder / "runs" / "renamed")
    assert state_of(two, "runs/other") == "gone"
    assert two("gc").stdout == "runs/other is gone: record removed\n"
    assert two.digests() == both  # linked into the renamed folder: it would free nothing
    said = two.go("--out", "runs/renamed", *OTHER[2:])
    assert "22 steps were already in the store" in said

    shutil.rmtree(two.folder / "runs" / "renamed")
    assert row_of(two, "runs/renamed")[-2:] == row_of(two, "unused")[-2:]
    planned = two("gc", "--dry-run").stdout
    assert two.digests() == both
    assert two("gc").stdout == planned.replace("would be removed", "removed")
    assert two.digests() == undisturbed.digests()
    assert "22 steps were already in the store" in two.go()


def test_c08_debris_of_a_killed_run(copied: Tiny, undisturbed: Tiny) -> None:
    killed = train_again(copied, "train-augmented", CROSSMOD_FAULT="train-augmented:saved:kill")
    killed.communicate()
    [draft] = copied.store.glob("??/.*")
    key = draft.name.split(".")[1]
    saved = sorted((copied.store / "checkpoints" / key).iterdir())
    assert state_of(copied, "runs/tiny") == "failed"
    assert row_of(copied, "drafts")[1] == "1"
    holder = (
        "import sys; from pathlib import Path; from crossmod.store.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(sys.argv[2]): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, copied.store, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert "kept: 1" in copied("gc").stdout
        assert draft.is_dir()
        owner.kill()
    assert "drafts: 1 removed" in copied("gc").stdout
    assert not draft.exists()
    assert sorted((copied.store / "checkpoints" / key).iterdir()) == saved  # the run goes on there
    copied.go()
    assert copied.digests() == undisturbed.digests()
    assert list(copied.store.rglob(".*")) == [copied.store / LEDGER]


def test_gc_beside_a_run(two: Tiny, undisturbed: Tiny) -> None:
    shutil.rmtree(two.folder / "runs" / "other")
    process = train_again(two, "train-round-1", CROSSMOD_FAULT="train-round-1:step-2:sleep=4")
    while not list(two.store.glob("??/.*")):
        time.sleep(0.05)
    assert state_of(two, "runs/tiny") == "running"
    collectors = [two.start("gc") for _ in range(2)]
    for collector in collectors:
        stdout, stderr = collector.communicate()
        assert collector.returncode == 0, stdout + stderr
        assert "left" not in stdout
    assert process.returncode is None
    assert len(list(two.store.glob("??/.*"))) == 1
    printed = process.communicate()
    assert process.returncode == 0, printed
    assert state_of(two, "runs/tiny") == "finished"
    assert two.digests() == undisturbed.digests()


def test_a_run_that_begins_during_gc_gets_all_it_needs(two: Tiny) -> None:
    """Its old results are on their way out: it waits, then makes them."""
    both = two.digests()
    shutil.rmtree(two.folder / "runs" / "other")
    collector = two.start("gc", CROSSMOD_FAULT="run:sweep:sleep=4")
    two.wait_for("run:sweep")
    two.go(*OTHER)
    stdout, stderr = collector.communicate()
    assert collector.returncode == 0, stderr
    assert "results: 6 removed" in stdout
    assert two.digests() == both
    assert "Nothing to remove" in two("gc").stdout


@pytest.mark.parametrize("place", ["drop", "delete"])
def test_a_killed_gc_is_finished_by_the_next(place: str, two: Tiny, undisturbed: Tiny) -> None:
    shutil.rmtree(two.folder / "runs" / "other")
    two("gc", code=-signal.SIGKILL, CROSSMOD_FAULT=f"run:{place}:kill")
    two("gc")
    assert two.digests() == undisturbed.digests()
    assert list(two.store.glob("*/.*")) == []


def test_c10_moved_with_its_runs(two: Tiny) -> None:
    both = two.digests()
    (two.folder / "runs").rename(two.folder / "elsewhere")
    there = two.folder / "elsewhere" / "store"
    assert row_of(two, "elsewhere/other Tiny", "--store", there)[2] == "finished"
    assert two("gc", "--store", there).stdout == "Nothing to remove\n"
    (two.folder / "elsewhere").rename(two.folder / "runs")
    assert two.digests() == both


def test_variants_are_one_run(copied: Tiny) -> None:
    recipe = "[variants.one]\ntranslate.sharpen.iterations=1\n[variants.tiny]\n"
    (copied.folder / "two.toml").write_text(RECIPE + recipe, encoding="utf-8")
    copied("run", "two.toml", code=4, CROSSMOD_FAULT="train-augmented:begin:kill")
    shutil.rmtree(copied.folder / "runs" / "tiny")
    assert "gone" in copied("gc").stdout
    _, _, state, steps, *_ = row_of(copied, "runs/two")
    assert state == "failed"
    stored, planned = map(int, steps.split("/"))
    assert 21 <= stored < planned < 2 * 21


def test_a_killed_program_leaves_an_unfinished_run(copied: Tiny) -> None:
    copied.go(code=-signal.SIGKILL, CROSSMOD_FAULT="run:record:kill")
    assert state_of(copied, "runs/tiny") == "unfinished"


def test_a_strange_record_is_a_warning_and_stops_gc(tmp_path: Path) -> None:
    program = Program(tmp_path)
    assert "does not exist" in program("gc", code=4).stderr
    assert "does not exist" in program("runs", code=4).stderr
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs" / "store" / "runs").mkdir(parents=True)
    assert "is not a store" in program("runs", code=4).stderr
    assert "is not a store" in program("gc", code=4).stderr
    shutil.rmtree(tmp_path / "runs" / "store")
    (Store(tmp_path / "runs" / "store").folder / "runs").mkdir()
    assert "No runs are recorded in runs/store" in program("runs").stdout
    (tmp_path / "runs" / "store" / "runs" / "run-1.json").write_text("{}", encoding="utf-8")
    assert "run-1.json cannot be read" in program("runs").stdout
    failed = program("gc", code=4)
    assert "run-1.json" in failed.stderr
    assert "Traceback" not in failed.stderr
