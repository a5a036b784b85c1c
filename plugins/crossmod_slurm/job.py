"""What a Slurm job runs on its node: one task, which saves its state when time is up.

Slurm sends USR2 before the time limit and TERM when it takes the node for somebody else. The job
requeues itself, so that it continues even when the program that submitted it is gone.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from crossmod import MachineError
from crossmod.engines import Advance, Event, Interrupted, Maker, Outcome, Remark, Store, Task

STOP = "stop"
"""A file of this name in the folder of the jobs tells them to end and not to start again."""

TELL_EVERY_S = 2.0
EARLY_S = 90.0
"""Slurm may signal a minute too early, and a job knows of its time only once Python runs."""


@dataclass(frozen=True)
class Job:
    """A task as Slurm runs it, each time it lets the job begin.

    Attributes:
        task: what to make.
        folder: where the jobs of a run keep their files.
        minutes: the time limit.
        signal_seconds: how long before the limit Slurm sends USR2.
    """

    task: Task
    folder: Path
    minutes: int
    signal_seconds: int

    def __call__(self) -> Outcome:
        """Make the task; does not return where it continues in another job.

        Raises:
            SystemExit: the job is back in the queue, or was canceled.
        """
        began, received = time.monotonic(), list[int]()
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda number, frame: received.append(number))
        if self._unwanted():  # since before signals were handled
            received.append(signal.SIGTERM)
        log = EventLog(self.folder, self.task.key)
        maker = Maker(self.task, log.write, lambda: bool(received))
        before = newest_checkpoint(maker.store, self.task.key)
        outcome = maker.outcome()
        if not isinstance(outcome.error, Interrupted) or self._unwanted():
            return outcome
        gained = newest_checkpoint(maker.store, self.task.key) != before
        spent = time.monotonic() - began + self.signal_seconds + EARLY_S
        if not gained and signal.SIGTERM not in received and spent >= 60 * self.minutes:
            return Outcome(self.task.key, error=self._too_long())
        log.write(Remark(self.task.key, f"{self.task.name} was interrupted by Slurm"))
        requeue()
        sys.exit()

    def _unwanted(self) -> bool:
        # NFS may remember for a while that a file is not there; a listing asks the server.
        return any(path.name == STOP for path in self.folder.iterdir())

    def _too_long(self) -> MachineError:
        return MachineError(
            f"needs more than the {self.minutes} minutes of its job and saved no checkpoint",
            where=f"step {self.task.name}",
            fix="raise slurm.time_minutes in the profile, then rerun",
        )


class EventLog:
    """Events of a task as lines of a file, for the program that waits for it.

    Args:
        folder: where the jobs of a run keep their files.
        key: of the task.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.jsonl"
        self._told, self._read = 0.0, 0

    def write(self, event: Event) -> None:
        """Add a line; progress is written only now and then."""
        now = time.monotonic()
        if isinstance(event, Advance) and not event.values and now - self._told < TELL_EVERY_S:
            return
        self._told = now
        row = {"kind": type(event).__name__, **asdict(event)}
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:  # news may be lost
            file.write(json.dumps(row) + "\n")

    def news(self) -> list[Advance | Remark]:
        """What was added since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        return [_event(line) for line in whole]


def _event(line: bytes) -> Advance | Remark:
    row = json.loads(line)
    kind = Advance if row.pop("kind") == Advance.__name__ else Remark
    return kind(**row)


def newest_checkpoint(store: Store, key: str) -> str:
    """The name of the newest checkpoint of a task, or nothing."""
    return max((path.name for path in store.checkpoints(key).glob("[0-9]*")), default="")


def requeue() -> None:
    """Put this job back into the queue, unless it was canceled or Slurm does so by itself."""
    import submitit

    number = submitit.JobEnvironment().job_id  # of one job where it is part of an array
    ask = ["squeue", "--noheader", "--format=%T", f"--jobs={number}"]
    state = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    if state == "RUNNING":
        subprocess.run(["scontrol", "requeue", number], check=False)
