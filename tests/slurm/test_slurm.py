"""Runs on a real Slurm of one node, without accounting; jobs are disturbed, results are not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest
from one_node import Reference, Work, digests, slurm, until, worker

pytestmark = pytest.mark.slow

FIT = "translate-gan-fit"
ONCE = ["1", "2", "3", "4"]
"""The iterations of a training that was never set back."""


def queued() -> str:
    """What is in the queue."""
    return slurm("squeue", "--noheader", "--array", "--format=%i %T")


def until_nothing_is_queued() -> None:
    until(lambda: queued() == "", 10, "something is left in the queue")


@pytest.fixture
def training(work: Work, reference: Reference) -> Work:
    """A run that has everything but one training, which is slow."""
    work.without(reference.store, [reference.keys[FIT]])
    return work


def test_a_run_without_accounting_uses_job_arrays_and_equals_a_local_run(
    work: Work, reference: Reference
) -> None:
    assert subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0  # E03
    work.seconds = 0
    work.run("--profile", work.profile())
    assert digests(work.store) == reference.digests
    until_nothing_is_queued()
    done = slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
    assert any("_1 " in line for line in done)
    assert all(line.endswith(" COMPLETED") for line in done)
    assert not list((work.store / "slurm").iterdir())


def test_a_preempted_training_goes_on_where_it_was(training: Work, reference: Reference) -> None:
    program = training.start("--profile", training.profile())
    training.under_way()
    slurm("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    until(lambda: "PENDING" in queued(), 60, "the training is not preempted")
    training.end(program)
    assert training.steps() == ONCE
    assert digests(training.store) == reference.digests


def test_a_training_goes_on_after_its_time_limit(training: Work, reference: Reference) -> None:
    training.seconds = 40
    training.run("--profile", training.profile(minutes=3))
    assert f"{FIT} was interrupted by Slurm" in training.events()
    assert training.steps() == ONCE
    assert digests(training.store) == reference.digests


def test_a_lost_node_costs_no_more_than_an_iteration(training: Work, reference: Reference) -> None:
    program = training.start("--profile", training.profile())
    training.under_way()
    node = slurm("sinfo", "--noheader", "--format=%n")
    lost = worker(training.store)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    with suppress(ProcessLookupError):
        os.kill(lost, signal.SIGKILL)  # or Slurm finds it there and holds the job
    until(lambda: "RUNNING" not in queued(), 60, "the job stays")
    # It may have come back by itself; then Slurm refuses.
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    training.end(program)
    assert sorted(set(training.steps())) == ONCE
    assert len(training.steps()) <= len(ONCE) + 1
    assert digests(training.store) == reference.digests


def test_ctrl_c_saves_leaves_nothing_in_the_queue_and_the_next_run_goes_on(
    work: Work, reference: Reference
) -> None:
    work.without(reference.store, [reference.keys[FIT], reference.keys["train-oracle"]])
    work.slow = "*"
    profile = work.profile(cores=os.cpu_count() or 1)  # one runs, one waits
    program = work.start("--profile", profile)
    until(lambda: "RUNNING" in queued() and "PENDING" in queued(), 60, "the jobs do not begin")
    until(lambda: ":step-1" in work.trace.read_text(encoding="utf-8"), 90, "no training begins")
    program.send_signal(signal.SIGINT)
    printed = work.end(program, code=5, seconds=60)
    assert "rerun the same command" in printed
    until_nothing_is_queued()
    work.run("--profile", profile)
    assert digests(work.store) == reference.digests
    lines = work.trace.read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if ":step-" in line) == sorted(
        f"{name}:step-{step}" for name in (FIT, "train-oracle") for step in ONCE
    )


def test_jobs_go_on_when_the_program_is_killed(training: Work, reference: Reference) -> None:
    program = training.start("--profile", training.profile())
    training.under_way()
    program.kill()
    program.wait()
    assert "RUNNING" in queued()
    printed = training.run("--profile", training.profile())
    assert training.steps() == ONCE
    assert digests(training.store) == reference.digests
    assert "being made by another run" in printed


@pytest.mark.parametrize("how", ["killed", "canceled"])
def test_a_job_that_dies_is_an_error_that_says_where_to_look(
    training: Work, reference: Reference, how: str
) -> None:
    program = training.start("--profile", training.profile())
    training.under_way()
    job = slurm("squeue", "--noheader", "--format=%i")
    if how == "killed":
        os.kill(worker(training.store), signal.SIGKILL)
    else:
        slurm("scancel", job)
    printed = training.end(program, code=4, seconds=150)
    state = "FAILED" if how == "killed" else "CANCELLED"
    assert f"step {FIT}: job {job} ended without a result, state {state}" in printed
    assert f"{job}_0_log.out" in printed
    until_nothing_is_queued()
    training.run("--profile", training.profile())
    assert sorted(set(training.steps())) == ONCE
    assert len(training.steps()) <= len(ONCE) + 1
    assert digests(training.store) == reference.digests


@pytest.mark.parametrize(
    ("minutes", "more", "message"),
    [
        (240, "", "can never start: Slurm reports Partition"),
        (30, 'partition = "nowhere"', "Slurm rejected the job: .*Invalid partition"),
    ],
)
def test_what_slurm_will_never_run_is_said(
    work: Work, minutes: int, more: str, message: str
) -> None:
    printed = work.run("--profile", work.profile(minutes=minutes, more=more), code=4)
    assert re.search(message, printed)
    until_nothing_is_queued()
