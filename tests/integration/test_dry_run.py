"""What is said of a run before it begins, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tiny import Tiny, settings

SHORT = settings("augment=false", "pseudo_label=false", "translate.sharpen=false")
HUGE = [*settings("segment.patch=[4096,4096,4096]"), *SHORT]


def row(shown: str, step: str) -> str:
    """The row of a step in the table of a plan."""
    [line] = [line for line in shown.splitlines() if re.match(rf"\d+ +{step} ", line)]
    return line


def test_why_a_step_runs(copied: Tiny) -> None:
    stored = copied.go("--dry-run")
    assert "Steps: 0 to run" in stored
    assert "stored" in row(stored, "train-augmented")

    changed = copied.go("--dry-run", "--set", "translate.sharpen.iterations=1")
    assert "stored" in row(changed, "translate-gan")
    assert "to run: options.iterations 2 -> 1" in row(changed, "translate-sharpen")
    assert "to run: input translate-sharpen" in row(changed, "train-augmented")

    seeded = copied.go("--dry-run", "--set", "seed=7")
    assert "to run: seed 2022 -> 7" in row(seeded, "translate-gan-fit")

    key = copied.result.keys()["prepare-target"]
    shutil.rmtree(copied.store / key[:2] / key)
    removed = copied.go("--dry-run")
    assert "to run: a stored result was removed" in row(removed, "prepare-target")
    assert "Steps: 1 to run" in removed
    assert re.search(r" e *$", row(removed, "prepare-target"))  # as the other preparations


def test_a_segmenter_is_trained_even_if_every_other_stage_is_left_out(copied: Tiny) -> None:
    nothing = settings(
        "translate=false", "augment=false", "pseudo_label=false", "evaluate.compare=[]"
    )
    shown = copied.go("--dry-run", *nothing)
    assert row(shown, "train-no-adaptation")
    assert row(shown, "score-no-adaptation-validation")


def test_what_somebody_put_into_a_run_folder_stays(copied: Tiny) -> None:
    changed = ["--set", "translate.sharpen.iterations=1"]
    [shown] = copied.result.folder.glob("*-translate-sharpen")
    note, scores = shown / "notes.txt", copied.result.folder / "metrics.csv"
    note.write_text("mine", encoding="utf-8")
    before = copied.result.events()
    assert f"{note.relative_to(copied.folder)}\n" in copied.go(*changed, code=3)
    assert "22 steps were already in the store" in copied.go()  # nothing would go
    note.unlink()
    scores.write_text("mine", encoding="utf-8")
    for more in ([], changed, ["--dry-run"]):
        assert "metrics.csv: was not written by the run of ../../tiny.toml" in copied.go(
            *more, code=3
        )
    assert scores.read_text(encoding="utf-8") == "mine"
    assert copied.made() == Counter(row["step"] for row in before if row["event"] == "finished")


def test_a_killed_training_goes_on(copied: Tiny) -> None:
    longer = ["--set", "translate.gan.iterations=6"]
    copied.go(*longer, code=4, CROSSMOD_FAULT="translate-gan-fit:step-3:kill")
    shown = copied.go(*longer, "--dry-run")
    assert "to run: resumes from a checkpoint (step 2)" in row(shown, "translate-gan-fit")


def test_r07_what_cannot_fit_is_refused_before_anything_is_made(tiny: Tiny) -> None:
    """An absurd patch."""
    refused = tiny.go(*HUGE, code=4)
    for words in ("train-translated", "out of memory", "this machine has", "patch", "--force"):
        assert words in refused
    assert not tiny.result.folder.exists()
    assert not list(tiny.store.glob("??/*"))

    assert "Does not fit: step train-translated" in tiny.go("--dry-run", *HUGE)
    forced = tiny.go(*HUGE, "--force", code=1, CROSSMOD_FAULT="phantom:begin:raise")
    assert "does not fit" not in forced
    assert "fault phantom:begin:raise" in forced


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_at_once(tiny: Tiny) -> None:
    """X06."""
    there = settings("device=cuda")
    assert "Does not fit: device" in tiny.go("--dry-run", *there)
    assert not (tiny.folder / "runs").exists()  # of a plan nothing is left
    assert 'device = "cuda": this machine has no GPU' in tiny.go(*there, code=4)
    assert not tiny.result.folder.exists()


LONGER = [
    "translate.gan.iterations=60",
    "translate.gan.base_channels=16",
    "segment.iterations=30",
    "segment.base_channels=16",
]


def test_probes_are_near_what_a_run_takes(prepared: Tiny) -> None:
    profile = "checkpoint_minutes = 60\nlocal.workers = 1\n"
    (prepared.folder / "profile.toml").write_text(profile, encoding="utf-8")
    changes = [*SHORT, *settings(*LONGER)]
    shown = prepared.go("--dry-run", *changes)
    assert list((prepared.store / "probes").iterdir())
    again = prepared.go("--dry-run", *changes)  # from what is kept: measured anew, digits change
    assert row(again, "train-translated") == row(shown, "train-translated")
    prepared.go(*changes)
    for step in ("translate-gan-fit", "train-translated"):
        key = prepared.result.keys()[step]
        manifest = json.loads((prepared.store / key[:2] / key / "manifest.json").read_text("utf-8"))
        seconds, memory = cost(row(shown, step))
        # Other tests may begin or end between the two, each a multiple of the time.
        assert 1 / 10 < seconds / manifest["seconds"] < 10, (step, seconds, manifest["seconds"])
        assert 1 / 2 < memory / manifest["peak_bytes"] < 2


def cost(line: str) -> tuple[float, float]:
    """Seconds and bytes in the row of a step."""
    time, memory = re.findall(r"([\d.]+) (s|min|MB|GB)", line)[:2]
    units = {"s": 1, "min": 60, "MB": 1e6, "GB": 1e9}
    return float(time[0]) * units[time[1]], float(memory[0]) * units[memory[1]]
