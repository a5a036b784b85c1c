"""How the jobs of a Slurm run end, and what the user learns about it."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

from crossmod import MachineError
from crossmod.engines import Interrupted, Outcome, Task
from crossmod_slurm.queue import JobFiles, State

PASSING = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "COMPLETED")
"""States in which a task is not to blame. A completed job without a result has saved its state, but
could not requeue itself."""

ADVICE = {
    "OUT_OF_MEMORY": "raise slurm.memory_gb in the profile",
    "TIMEOUT": "raise slurm.time_minutes or slurm.signal_seconds in the profile",
    "CANCELLED": "the job was canceled; rerun to resume",
    "PREEMPTED": "it was preempted twice before it saved anything; try another partition or qos",
}

PRINTED = 2000


def left_by(task: Task, files: JobFiles) -> Outcome | None:
    """The outcome that a job left, if it did."""
    if not files.result.exists():
        return None
    with files.result.open("rb") as file:
        kind, content = pickle.load(file)
    if kind == "success":
        outcome: Outcome = content
        return outcome
    error = MachineError(
        f"job {files.number} failed: {content.strip().splitlines()[-1]}",
        where=f"step {task.name}",
        fix=f"--traceback shows where; see its log, {files.log}",
    )
    return Outcome(task.key, error=error, traceback=content)


def stopped(task: Task) -> Outcome:
    """The outcome of a task whose job was told to end."""
    return Outcome(task.key, error=Interrupted(f"{task.name} was stopped"))


def hopeless(task: Task, files: JobFiles, state: State) -> Outcome:
    """The outcome of a task whose job can never start."""
    error = MachineError(
        f"job {files.number} can never start: Slurm reports {state.reason}",
        where=f"step {task.name}",
        fix="ask for less time, memory or cores, or for another partition, in [slurm] of the "
        "profile; `scontrol show partition` shows the limits",
    )
    return Outcome(task.key, error=error)


def lost(task: Task, files: JobFiles, state: State) -> Outcome:
    """The outcome of a task whose job ended and left nothing."""
    try:
        printed = files.log.read_text(encoding="utf-8", errors="replace")[-PRINTED:]
        place = f"see its log, {files.log}"
    except OSError:
        printed, place = "", f"it has no log: check that all nodes see {files.log.parent}"
    error = MachineError(
        f"job {files.number} ended without a result, state {state.name or 'unknown to Slurm'}",
        where=f"step {task.name}",
        fix=f"{ADVICE.get(state.name, 'rerun to resume')}; {place}",
    )
    return Outcome(task.key, error=error, traceback=printed)


def refresh_listing(folder: Path) -> None:
    """List a folder, so that NFS asks the server for new files."""
    with suppress(OSError):
        list(folder.iterdir())
