"""How the jobs of a Slurm run end, and what the user is told about it."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

from crossmod import MachineError
from crossmod.engines import Interrupted, Outcome, Task
from crossmod_slurm.queue import Paper, State

PASSING = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "COMPLETED")
"""Ends that are no fault of a task. A complete job without a result has saved its state, but could
not put itself back into the queue."""

ADVICE = {
    "OUT_OF_MEMORY": "raise slurm.memory_gb in the profile",
    "TIMEOUT": "raise slurm.time_minutes or slurm.signal_seconds in the profile",
    "CANCELLED": "somebody canceled it; run again to go on",
    "PREEMPTED": "twice before anything was saved; try another partition or qos",
}

PRINTED = 2000


def left_by(task: Task, paper: Paper) -> Outcome | None:
    """The outcome that a job left, if it did."""
    if not paper.result.exists():
        return None
    with paper.result.open("rb") as file:
        kind, content = pickle.load(file)
    if kind == "success":
        outcome: Outcome = content
        return outcome
    error = MachineError(
        f"job {paper.number} failed: {content.strip().splitlines()[-1]}",
        where=f"step {task.name}",
        fix=f"--traceback shows where; its log: {paper.log}",
    )
    return Outcome(task.key, error=error, traceback=content)


def stopped(task: Task) -> Outcome:
    """The outcome of a task whose job was told to end."""
    return Outcome(task.key, error=Interrupted(f"{task.name} was stopped"))


def hopeless(task: Task, paper: Paper, state: State) -> Outcome:
    """The outcome of a task whose job never begins."""
    error = MachineError(
        f"job {paper.number} would wait forever: Slurm says {state.reason}",
        where=f"step {task.name}",
        fix="ask for less time, memory or cores, or for another partition, in [slurm] of the "
        "profile; `scontrol show partition` shows the limits",
    )
    return Outcome(task.key, error=error)


def lost(task: Task, paper: Paper, state: State) -> Outcome:
    """The outcome of a task whose job ended and left nothing."""
    try:
        printed = paper.log.read_text(encoding="utf-8", errors="replace")[-PRINTED:]
        place = f"its log: {paper.log}"
    except OSError:
        printed, place = "", f"it has no log; do all nodes see {paper.log.parent}?"
    error = MachineError(
        f"job {paper.number} ended without a result, state {state.name or 'unknown to Slurm'}",
        where=f"step {task.name}",
        fix=f"{ADVICE.get(state.name, 'run again to go on')}; {place}",
    )
    return Outcome(task.key, error=error, traceback=printed)


def look_anew(folder: Path) -> None:
    """List a folder; NFS then asks the server for what is new in it."""
    with suppress(OSError):
        list(folder.iterdir())
