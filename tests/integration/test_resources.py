"""What a run does without disk, memory, GPU or terminal. Rows X01 to X07 of the fault matrix."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_crash import assert_same, forget
from tiny import RECIPE, Tiny

from crossmod.errors import MachineError
from crossmod.run.execute import Maker
from crossmod.run.task import Machine, Task

CROSSMOD = Path(sys.executable).parent / "crossmod"
WRITES = ("draft", "saving", "append-training.jsonl", "written", "sealed")
WRITES_OF_THE_PROGRAM = ("append-events.jsonl", "show", "write-metrics.csv", "write-run.json",
                         "write-recipe.lock.toml", "write-report.html")  # fmt: skip


def with_mounts(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with mounts of its own; it exits with 99 where it may not mount."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99:
        pytest.skip("mounting is not allowed here")
    return done


def test_x01_a_full_disk_at_every_write(copied: Tiny, undisturbed: Tiny) -> None:
    forget(copied, "train-round-1")
    shutil.rmtree(copied.result.folder)
    for place in WRITES:
        said = copied.go(code=4, CROSSMOD_FAULT=f"train-round-1:{place}:enospc")
        assert "No space left on device" in said
        assert "Traceback" not in said
    for place in WRITES_OF_THE_PROGRAM:
        said = copied.go(code=4, CROSSMOD_FAULT=f"run:{place}:enospc")
        assert "No space left on device" in said
        assert "Traceback" not in said
        for path in copied.result.folder.glob("*.*"):
            assert path.name == "events.jsonl" or path.read_text(encoding="utf-8").strip()
    copied.go()
    assert_same(copied, undisturbed)


def test_x01_a_disk_that_is_really_full(tiny: Tiny, undisturbed: Tiny) -> None:
    """Grow a small disk step by step; nothing truncated is ever taken for a result."""
    script = f"""
        mkdir -p runs && mount -t tmpfs -o size=1m none runs || exit 99
        for size in 1m 3m 6m 9m 64m; do
            mount -o remount,size=$size runs
            {CROSSMOD} run tiny.toml --profile profile.toml --force
            echo "code $?"
        done
        mkdir kept && cp -r runs/. kept/
    """
    done = with_mounts(script, tiny.folder)
    codes = re.findall(r"^code (\d+)", done.stdout, re.M)
    assert codes[0] == "4"
    assert codes[-1] == "0", done.stderr
    assert set(codes) == {"0", "4"}
    assert done.stderr.count("No space left on device") == codes.count("4")
    assert "Traceback" not in done.stderr
    shutil.rmtree(tiny.folder / "runs")
    (tiny.folder / "kept").rename(tiny.folder / "runs")
    assert_same(tiny, undisturbed)


def test_x02_an_error_that_passes_is_tried_again(copied: Tiny, undisturbed: Tiny) -> None:
    forget(copied, "train-round-1")
    said = copied.go(CROSSMOD_FAULT="train-round-1:sealed:eio")
    assert "Input/output error; retrying" in said
    assert_same(copied, undisturbed)


def test_x03_a_worker_killed_for_memory(copied: Tiny, undisturbed: Tiny) -> None:
    forget(copied, "train-round-1")
    said = copied.go(code=4, CROSSMOD_FAULT="train-round-1:step-3:kill")
    assert "out of memory: the system killed the worker" in said
    assert "step train-round-1" in said
    assert "GiB" in said
    assert "--workers 1" in said
    copied.go("--workers", "1")
    assert_same(copied, undisturbed)


@pytest.mark.slow
def test_x03_more_memory_than_the_process_may_have(copied: Tiny) -> None:
    limited = f"ulimit -v 6000000; exec {CROSSMOD} run tiny.toml --force " + " ".join(
        f"--set segment.{option}"
        for option in ("patch=[384,384,128]", "base_channels=32", "batch_size=4")
    )
    done = subprocess.run(
        ["sh", "-c", limited],
        cwd=copied.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 4, done.stderr
    assert "step train-augmented" in done.stderr
    assert "out of memory" in done.stderr
    assert "smaller patch" in done.stderr


def test_x04_a_gpu_out_of_memory_names_step_and_remedy(
    copied: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from crossmod.recipe.load import load_all
    from crossmod.run.plan import Planner

    [checked] = load_all(copied.folder / "tiny.toml", [])
    step = next(s for s in Planner(checked, None).plan().steps if s.name == "train-augmented")

    def fail(self: object, store: object, ctx: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(type(step), "make", fail)
    forget(copied, "train-augmented")
    task = Task(step.key, step, copied.store, {"tumor": 1, "cochlea": 2}, Machine(device="cpu"))
    error = Maker(task).outcome().error
    assert isinstance(error, MachineError)
    assert "CUDA out of memory" in str(error)
    assert "train-augmented" in str(error)
    assert "batch" in str(error)


def test_x05_a_tiny_shared_memory_does_not_matter(copied: Tiny, undisturbed: Tiny) -> None:
    """Workers hand over nothing through /dev/shm."""
    forget(copied, "translate-gan-fit", "train-round-1")
    script = f"mount -t tmpfs -o size=4k none /dev/shm || exit 99; {CROSSMOD} run tiny.toml"
    done = with_mounts(script, copied.folder)
    assert done.returncode == 0, done.stderr
    assert copied.digests() == undisturbed.digests()


def test_x06_a_gpu_that_is_not_there(tiny: Tiny) -> None:
    said = tiny.go("--set", "device=cuda", code=4)
    assert "cuda" in said
    assert "no GPU" in said
    assert not list(tiny.store.glob("??/*"))


@pytest.mark.parametrize(
    "variables",
    [{"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"COLUMNS": "20"},
     {"TERM": "dumb", "NO_COLOR": "1"}],
    ids=["ascii", "narrow", "dumb"],
)  # fmt: skip
def test_x07_any_terminal(variables: dict[str, str], copied: Tiny) -> None:
    forget(copied, "score-round-1-validation")
    printed = copied.go(**variables)
    assert "score-round-1" in re.sub(r"\s", "", printed) or "COLUMNS" in variables
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", printed)  # no control characters


def test_x07_without_an_output(copied: Tiny) -> None:
    forget(copied, "score-round-1-validation")
    for closed in (">&-", ">&- 2>&-", "| true"):
        command = f"{CROSSMOD} run tiny.toml {closed}"
        done = subprocess.run(["bash", "-c", command], cwd=copied.folder, check=False)
        assert done.returncode == 0
    assert copied.result.scores()


def test_folds_on_two_workers_are_the_folds_on_one(tmp_path: Path) -> None:
    recipe = RECIPE.replace("[segment]", "[segment]\nfolds = 2")
    one, two = Tiny(tmp_path / "one", recipe), Tiny(tmp_path / "two", recipe)
    one.go("--workers", "1", OMP_NUM_THREADS="1")
    two.go("--workers", "2", OMP_NUM_THREADS="2")
    assert one.digests() == two.digests()
    assert np.sum(["fold" in row["step"] for row in one.digests().values()]) == 4


def test_e05_a_run_whose_program_was_killed_makes_nothing_twice(
    tiny: Tiny, undisturbed: Tiny
) -> None:
    tiny.go(code=-9, CROSSMOD_FAULT="run:record:kill")
    before = tiny.made()
    tiny.go()
    assert tiny.made() == before
    assert set(before.values()) == {1}
    assert_same(tiny, undisturbed)


def test_e06_five_folds_started_at_once_on_an_empty_store(tmp_path: Path) -> None:
    recipe = RECIPE.replace("source = 2", "source = 6").replace("[segment]", "[segment]\nfolds = 5")
    tiny = Tiny(tmp_path / "tiny", recipe + "[pseudo_label]\nrounds = 1\n")
    settings = ("--set", "pseudo_label=false", "--workers", "1")
    processes = [tiny.launch("--out", f"runs/out-{number}", *settings) for number in range(5)]
    printed = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, printed
    made = [
        line
        for number in range(5)
        for line in (tiny.folder / f"runs/out-{number}/events.jsonl").read_text().splitlines()
        if '"finished"' in line
    ]
    names = [line.split('"step": "')[1].split('"')[0] for line in made]
    assert len(names) == len(set(names)) == len(tiny.digests())
