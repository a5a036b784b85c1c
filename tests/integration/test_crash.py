"""Kill a run anywhere: the next one goes on, and its results are those of an undisturbed run.

Rows C01 to C13 of the fault matrix.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny import PROFILE, RECIPE, Tiny, begun

STEP = "train-augmented"
IN_THE_WORKER = ("begin", "step-2", "saving", "saved", "written", "sealed", "published")
IN_THE_PROGRAM = ("show", "scores", "write-metrics.csv", "write-run.json", "write-report.html")


def assert_same(tiny: Tiny, other: Tiny) -> None:
    assert tiny.digests() == other.digests()
    assert tiny.result.scores() == other.result.scores()
    assert (tiny.result.folder / "report.html").is_file()


def test_c01_killed_at_each_point_of_a_training_and_of_the_program(
    copied: Tiny, undisturbed: Tiny
) -> None:
    """What a program says whose worker is killed: X03."""
    copied.forget(STEP)
    for place in IN_THE_WORKER:
        assert copied.make(STEP, f"{place}:kill") == (-signal.SIGKILL, ""), place
    shutil.rmtree(copied.result.folder)
    for place in IN_THE_PROGRAM:
        copied.go(code=-signal.SIGKILL, CROSSMOD_FAULT=f"run:{place}:kill")
    copied.go()
    assert_same(copied, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_c01_killed_at_every_point_of_every_step(tiny: Tiny, undisturbed: Tiny) -> None:
    scout = Tiny(tiny.folder / "scout")
    trace = tiny.folder / "trace"
    scout.go("--workers", "1", CROSSMOD_FAULT="none:none:none", CROSSMOD_FAULT_TRACE=str(trace))
    places = dict.fromkeys(trace.read_text(encoding="utf-8").splitlines())
    assert len(places) > 150
    for place in places:
        if not _killed_at(place, tiny):  # the step was complete, or had gone on beyond this point
            step = place.partition(":")[0]
            if step == "run":
                shutil.rmtree(tiny.result.folder)  # a page that is right is not written again
            tiny.forget(step)
            assert _killed_at(place, tiny), place
    tiny.go()
    assert_same(tiny, undisturbed)


def _killed_at(place: str, tiny: Tiny) -> bool:
    process = tiny.launch("--workers", "1", CROSSMOD_FAULT=f"{place}:kill")
    printed = "".join(process.communicate())
    assert process.returncode in (0, 4, -signal.SIGKILL), printed
    return process.returncode != 0


def test_c02_asked_to_stop_it_saves_and_goes_on_later(copied: Tiny, undisturbed: Tiny) -> None:
    """Three times, so that each piece of the training begins where the one before was stopped."""
    copied.forget("train-round-1")
    profile = PROFILE.replace("checkpoint_minutes = 0", "checkpoint_minutes = 60")
    (copied.folder / "profile.toml").write_text(profile, encoding="utf-8")
    for number, name in enumerate(("SIGINT", "SIGTERM", "SIGUSR2"), start=1):
        process = copied.fork(CROSSMOD_FAULT=f"train-round-1:step-{number}:sleep=3")
        copied.wait_for(f"train-round-1:step-{number}")
        began = time.monotonic()
        os.killpg(process.pid, getattr(signal, name))
        stdout, stderr = process.communicate(timeout=60)
        assert time.monotonic() - began < 30  # as promised; it may sleep through 3 of them
        assert process.returncode == 5, stdout + stderr
        assert "rerun the same command" in stderr
        kept = (copied.store / "checkpoints").glob("*/[0-9]*")
        assert max(int(saved.name) for saved in kept) == number
    copied.go()
    assert_same(copied, undisturbed)


def test_c03_a_second_ctrl_c_leaves_at_once(copied: Tiny, undisturbed: Tiny) -> None:
    copied.forget("train-round-1")
    process = copied.launch(CROSSMOD_FAULT="train-round-1:begin:sleep=600")
    copied.wait_for("train-round-1:begin")
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    shown = iter(process.stdout.readline, "")
    assert any("press Ctrl-C again to quit now" in line for line in shown)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)  # of 600 that it would sleep
    assert process.returncode == 5
    assert copied.digests().items() < undisturbed.digests().items()


def test_c04_the_same_recipe_twice_in_one_folder(prepared: Tiny, undisturbed: Tiny) -> None:
    with ThreadPoolExecutor(2) as programs:
        assert all(programs.map(lambda _: prepared.go(), range(2)))
    assert set(prepared.made().values()) == {1}
    assert_same(prepared, undisturbed)


@pytest.mark.slow
def test_c05_two_recipes_share_a_store(prepared: Tiny, undisturbed: Tiny) -> None:
    tiny = prepared
    other = tiny.folder / "other.toml"
    changed = RECIPE.replace("iterations = 2\nstart", "iterations = 1\nstart")
    other.write_text(changed, encoding="utf-8")
    first, second = tiny.launch(), tiny.start("run", "other.toml", "--profile", "profile.toml")
    printed = [first.communicate(), second.communicate()]
    assert (first.returncode, second.returncode) == (0, 0), printed
    finished = tiny.made()
    tiny_made = set(finished)
    events = (tiny.folder / "runs" / "other" / "events.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in events.splitlines()]
    other_made = {row["step"] for row in rows if row["event"] == "finished"}
    shared = {row["step"] for row in rows if row["key"] in undisturbed.digests()}
    assert not (tiny_made & other_made & shared)
    assert "translate-gan" in shared
    assert {key: tiny.digests()[key] for key in undisturbed.digests()} == undisturbed.digests()


def test_c06_damaged_results_are_set_aside_and_made_anew(copied: Tiny, undisturbed: Tiny) -> None:
    """Each is an input of the next."""
    copied.forget("translate-sharpen")
    damage: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
        "translate-gan": ("images/*.nii", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        "translate-gan-fit": ("state.safetensors", lambda content: content[:500]),
        "prepare-source": ("images/*.nii", lambda content: None),
    }
    for step, (files, damaged) in damage.items():
        victim = next(entry_of(copied, step).glob(files))
        content = damaged(victim.read_bytes())
        victim.unlink()
        if content is not None:
            victim.write_bytes(content)
    said = copied.go()
    warnings = [row["text"] for row in copied.result.events() if row["event"] == "warning"]
    for step in damage:
        assert f"result of {step} is corrupted" in said
        assert any(f"result of {step} is corrupted" in text for text in warnings)
    assert len(list((copied.store / "quarantine").iterdir())) == len(damage)
    assert copied.digests() == undisturbed.digests()


def test_c09_no_decision_rests_on_a_clock(copied: Tiny, undisturbed: Tiny) -> None:
    for number, path in enumerate(sorted(copied.store.rglob("*"))):
        os.utime(path, (1e9 + number * 86400, 2e9 - number * 86400))
    assert "22 steps were already in the store" in copied.go()
    copied.forget("train-round-1")
    for shift in ("-1y", "+1d"):
        copied.forget("predict-round-1-target")
        with at_another_time(copied, shift) as process:
            printed = process.communicate()
        assert process.returncode == 0, printed
        assert copied.digests() == undisturbed.digests()


def test_c09_programs_whose_clocks_differ(prepared: Tiny, undisturbed: Tiny) -> None:
    with at_another_time(prepared, "+1d") as ahead, prepared.launch() as process:
        printed = [ahead.communicate(), process.communicate()]
    assert (ahead.returncode, process.returncode) == (0, 0), printed
    assert set(prepared.made().values()) == {1}
    assert_same(prepared, undisturbed)


def at_another_time(tiny: Tiny, shift: str) -> subprocess.Popen[str]:
    """Start the recipe under a clock that is wrong."""
    if not shutil.which("faketime"):
        pytest.skip("faketime is not installed: apt-get install faketime")
    crossmod = Path(sys.executable).parent / "crossmod"
    command = ["faketime", "-f", shift, crossmod, *tiny.arguments()]
    return subprocess.Popen(
        command, cwd=tiny.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_c10_a_moved_store(copied: Tiny) -> None:
    moved = copied.folder.with_name("moved elsewhere")
    copied.folder.rename(moved)
    there = Tiny(moved)
    assert "22 steps were already in the store" in there.go()
    for path in there.store.rglob("*.json*"):
        assert str(copied.folder) not in path.read_text(encoding="utf-8")


def test_c10_a_store_that_can_only_be_read(copied: Tiny) -> None:
    inside = (
        f"mount --bind {copied.store} {copied.store} && "
        f"mount -o remount,ro,bind {copied.store} && exec "
    )
    crossmod = str(Path(sys.executable).parent / "crossmod")

    def within(*more: str) -> subprocess.CompletedProcess[str]:
        command = inside + " ".join([crossmod, *map(str, copied.arguments()), *more])
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", command],
            cwd=copied.folder,
            check=False,
            capture_output=True,
            text=True,
        )

    probe = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("mounting is not allowed here")
    all_stored = within()
    assert all_stored.returncode == 0, all_stored.stderr
    changed = within("--set", "seed=1")
    assert changed.returncode == 4
    assert "--store" in changed.stderr
    assert "Traceback" not in changed.stderr


def test_c13_killed_in_the_second_round_of_self_training(undisturbed: Tiny, tmp_path: Path) -> None:
    recipe = RECIPE + "[pseudo_label]\nrounds = 2\n"
    calm, killed = (begun(undisturbed, tmp_path / name, recipe) for name in ("calm", "killed"))
    calm.go()
    assert "train-round-1" not in calm.made()
    killed.go(code=4, CROSSMOD_FAULT="train-round-2:saved:kill")
    killed.go()
    assert {row["step"] for row in calm.digests().values()} >= {"pseudo-label-2", "train-round-2"}
    assert killed.digests() == calm.digests()


def entry_of(tiny: Tiny, step: str) -> Path:
    """Where the result of a step lies."""
    [key] = {row["key"] for row in tiny.result.events() if row["step"] == step}
    return tiny.store / key[:2] / key
