"""What a run does without disk, memory, GPU or terminal. Rows X01 to X07 of the fault matrix."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from program import Result
from test_crash import assert_same
from tiny import PREPARED, RECIPE, Tiny, begun, settings

from crossmod.errors import MachineError
from crossmod.run.execute import Maker
from crossmod.run.task import Machine, Task

CROSSMOD = Path(sys.executable).parent / "crossmod"
WRITES = ("draft", "saving", "append-training.jsonl", "written", "sealed")
WRITES_OF_A_RUN = ("append-events.jsonl", "show", "write-metrics.csv", "write-run.json",
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
    copied.forget("train-round-1")
    for place in WRITES:
        code, error = copied.make("train-round-1", f"{place}:enospc")
        assert code == 0
        assert "No space left on device" in error
    shutil.rmtree(copied.result.folder)
    for fault in (f"train-round-1:{WRITES[-1]}", *(f"run:{place}" for place in WRITES_OF_A_RUN)):
        said = copied.go(code=4, CROSSMOD_FAULT=f"{fault}:enospc")
        assert "No space left on device" in said
        assert "Traceback" not in said
        for path in copied.result.folder.glob("*.*"):
            assert path.name == "events.jsonl" or path.read_text(encoding="utf-8").strip()
    copied.go()
    assert_same(copied, undisturbed)


@pytest.mark.slow
def test_x01_a_disk_that_is_really_full(prepared: Tiny, undisturbed: Tiny) -> None:
    """Grow a small disk step by step; nothing truncated is ever taken for a result."""
    script = f"""
        mv runs before && mkdir runs && mount -t tmpfs none runs || exit 99
        cp -r before/. runs && rm -r before
        full=$(df --output=used --block-size=1K runs | tail -1)
        for more in 100 700 60000; do
            mount -o remount,size=$((full + more))k runs
            {CROSSMOD} run tiny.toml --profile profile.toml --force
            echo "code $?, $(ls -d runs/store/??/* | wc -l) results"
        done
        mkdir kept && cp -r runs/. kept/
    """
    done = with_mounts(script, prepared.folder)
    codes = re.findall(r"^code (\d+)", done.stdout, re.M)
    assert codes == ["4", "4", "0"], done.stdout + done.stderr
    assert done.stderr.count("No space left on device") == 2
    assert "Traceback" not in done.stderr
    shutil.rmtree(prepared.folder / "runs")
    (prepared.folder / "kept").rename(prepared.folder / "runs")
    assert_same(prepared, undisturbed)


def test_x03_a_worker_killed_for_memory_and_x02_an_error_that_passes(
    copied: Tiny, undisturbed: Tiny
) -> None:
    copied.forget("train-round-1")
    said = copied.go(code=4, CROSSMOD_FAULT="train-round-1:step-3:kill")
    assert "out of memory: the system killed the worker" in said
    assert "step train-round-1" in said
    assert "GiB" in said
    assert "--workers 1" in said
    said = copied.go("--workers", "1", CROSSMOD_FAULT="train-round-1:sealed:eio")
    assert "Input/output error; retrying" in said
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
    from crossmod.run.planner import Planner

    [checked] = load_all(copied.folder / "tiny.toml", [])
    step = next(s for s in Planner(checked, None).plan().steps if s.name == "train-augmented")

    def fail(self: object, store: object, ctx: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(type(step), "make", fail)
    copied.forget("train-augmented")
    task = Task(step.key, step, copied.store, {"tumor": 1, "cochlea": 2}, Machine(device="cpu"))
    error = Maker(task).outcome().error
    assert isinstance(error, MachineError)
    assert "CUDA out of memory" in str(error)
    assert "train-augmented" in str(error)
    assert "batch" in str(error)


def test_x05_a_tiny_shared_memory_does_not_matter(copied: Tiny, undisturbed: Tiny) -> None:
    """Workers hand over nothing through /dev/shm."""
    copied.forget("train-round-1")
    command = " ".join(map(str, (CROSSMOD, *copied.arguments())))
    script = f"mount -t tmpfs -o size=4k none /dev/shm || exit 99; {command}"
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
    copied.forget("score-round-1-validation")
    if "PYTHONIOENCODING" in variables:  # Python reads it as it starts
        done = copied.as_installed(*copied.arguments(), **variables)
        printed = done.stdout + done.stderr
    else:
        printed = copied.go(**variables)
    assert "score-round-1" in re.sub(r"\s", "", printed) or "COLUMNS" in variables
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", printed)  # no control characters


def test_x07_without_an_output(copied: Tiny) -> None:
    copied.forget("score-round-1-validation")
    for closed in (">&-", ">&- 2>&-", "| true"):
        command = f"{CROSSMOD} run tiny.toml {closed}"
        done = subprocess.run(["bash", "-c", command], cwd=copied.folder, check=False)
        assert done.returncode == 0
    assert copied.result.scores()


def test_folds_on_two_workers_are_the_folds_on_one(undisturbed: Tiny, tmp_path: Path) -> None:
    recipe = RECIPE.replace("[segment]", "[segment]\nfolds = 2")
    one, two = (begun(undisturbed, tmp_path / name, recipe) for name in ("one", "two"))
    for tiny, workers in ((one, "1"), (two, "2")):
        tiny.go("--workers", workers, *settings("pseudo_label=false"), OMP_NUM_THREADS=workers)
    assert one.digests() == two.digests()
    trained = [step for step in one.result.made() if step.startswith("train")]
    assert sorted(trained) == ["train-augmented-fold-1", "train-augmented-fold-2"]
    assert one.result.stages() == ["augmented"]


def test_e05_a_run_whose_program_was_killed_makes_nothing_twice(
    copied: Tiny, undisturbed: Tiny
) -> None:
    shutil.rmtree(copied.result.folder)
    copied.forget("train-round-1")
    copied.go(code=-9, CROSSMOD_FAULT="run:record:kill")
    assert copied.made() == {"train-round-1": 1}
    copied.go()
    assert copied.made() == {"train-round-1": 1}
    assert_same(copied, undisturbed)


def test_e06_programs_that_want_the_same_folds_at_once(prepared: Tiny) -> None:
    """Three: one makes a result, and two that wait for it must not both make the next."""
    folds = settings("pseudo_label=false", "augment=false", "segment.folds=2")
    outs = [f"runs/out-{number}" for number in range(3)]
    with ThreadPoolExecutor(3) as programs:
        assert all(programs.map(lambda out: prepared.go("--out", out, *folds), outs))
    made = [step for out in outs for step in Result(prepared.folder / out, "").made()]
    assert len(made) == len(set(made)) == len(prepared.digests()) - len(PREPARED)
    assert sum("fold" in step for step in made) == 2
