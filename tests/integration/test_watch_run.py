"""`crossmod watch` of real runs: one that has finished, one that failed, one that was killed."""

from __future__ import annotations

import os
import signal
import time

import pytest
from program import Program, Result
from tiny import PATIENCE_S, Tiny

from crossmod.progress.state import FILE


def test_a_finished_run_is_shown_with_all_its_steps(smoke: Result, after_smoke: Program) -> None:
    shown = after_smoke("watch", smoke.folder, "--once").stdout
    head, whole, *_ = shown.splitlines()
    steps = len(list(smoke.folder.glob("[0-9][0-9]-*")))
    assert head.startswith("Smoke test  finished, ")
    assert f"{steps}/{steps} steps" in whole
    assert "no sign of life" not in shown
    refused = after_smoke("watch", next(smoke.folder.glob("*-train-oracle")), "--once", code=3)
    assert f"name the folder of the run: {smoke.folder}" in refused.stderr


def test_a_failed_run_names_step_and_error_and_where_more_is(tiny: Tiny) -> None:
    tiny.go("--workers", "1", code=1, CROSSMOD_FAULT="prepare-source:begin:raise")
    shown = tiny("watch", tiny.result.folder).stdout
    assert shown.startswith("Tiny  failed, ")
    assert "prepare-source failed; see runs/tiny/events.jsonl" in shown
    assert "error step prepare-source: RuntimeError: fault prepare-source:begin:raise" in shown
    [failed] = [event for event in tiny.result.events() if event["event"] == "failed"]
    assert failed["step"] == "prepare-source"


@pytest.mark.slow  # waits for 20 s of silence
def test_a_killed_run_gives_no_sign_of_life(tiny: Tiny) -> None:
    command = tiny.fork("--workers", "1", CROSSMOD_FAULT="phantom:begin:sleep=60")
    tiny.wait_for("phantom:begin")
    until = time.monotonic() + PATIENCE_S
    while not (tiny.result.folder / FILE).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    alive = tiny("watch", tiny.result.folder, "--once").stdout
    assert "▸ 1/" in alive
    assert "no sign of life" not in alive
    os.kill(command.pid, signal.SIGKILL)
    command.communicate()
    shown = tiny("watch", tiny.result.folder, "--once").stdout
    assert "  silent for " in shown.splitlines()[0]
    assert f"no sign of life from process {command.pid} on " in shown
    assert "rerun the recipe to resume if it was killed" in shown
