"""Tasks as jobs of a Slurm cluster; those that can be made together are one job array.

Whether a task is done, the store says; how it ended otherwise, a file that its job leaves; whether
the job still exists, `squeue`.

After Ctrl-C nothing of a run stays in the queue. If the program is killed, its jobs keep running,
and the next `crossmod run` finds their results or waits for them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

from crossmod import MachineError
from crossmod.engines import (
    THREAD_VARIABLES,
    Engine,
    Event,
    Machine,
    Outcome,
    Remark,
    Store,
    Task,
    with_extra,
)
from crossmod_slurm.ends import PASSING, hopeless, left_by, lost, refresh_listing, stopped
from crossmod_slurm.job import STOP, EventLog, Job, newest_checkpoint
from crossmod_slurm.options import SlurmOptions
from crossmod_slurm.queue import JobFiles, Queue, State, TryLater

LOOK_EVERY_S = 2.0
ASK_EVERY_S = 20.0
"""`squeue` burdens the whole cluster; reading our own files does not."""

LATE_S = 30.0
"""Time that a file of another machine may take to appear on a shared disk, longer than the time
between two queries: a requeued job may look finished for a moment."""

LEAVE_S = 15.0
"""Time for a job to end after its result has appeared."""


@dataclass
class Work:
    """A task that the engine has taken.

    Attributes:
        task: what to make.
        log: the events of its jobs.
        files: those of its job; None while it has none.
        checkpoint: the newest when the job was submitted.
        repeated: whether it had a job before.
        over_since: when its job was first seen to be over without a result.
    """

    task: Task
    log: EventLog
    files: JobFiles | None = None
    checkpoint: str = ""
    repeated: bool = False
    over_since: float | None = None


class Slurm(Engine[SlurmOptions]):
    """Makes steps as jobs of a Slurm cluster.

    Attributes:
        queue: the jobs of this run.

    Raises:
        MachineError: submitit or Slurm is not there.
    """

    on_shared_disk = True

    def __init__(self, options: SlurmOptions, store: Store, machine: Machine) -> None:
        super().__init__(options, store, machine)
        if find_spec("submitit") is None:
            raise MachineError("submitit is missing", fix=with_extra("slurm"))
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise MachineError(
                "Slurm is not available: sbatch was not found",
                fix="log in to the cluster, or omit --engine slurm",
            )
        name = f"crossmod-{uuid4().hex[:8]}"
        self.queue = Queue(name, store.folder / "slurm" / name)
        self._works: dict[str, Work] = {}
        self._finished: list[JobFiles] = []
        self._remarks: list[Remark] = []
        self._noted: set[str] = set()
        self._looked = 0.0
        self._stopping = self._failed = False

    @property
    def gpus(self) -> int:
        """GPUs of a job."""
        if self.options.gpus_per_task is None:
            return int(self.machine.device != "cpu")
        return self.options.gpus_per_task

    @property
    def threads(self) -> int:
        """Threads of a job."""
        exact = self.machine.determinism == "exact"
        return 1 if exact and not self.gpus else self.options.cpus_per_task

    def takes(self, task: Task, beside: Sequence[Task] = ()) -> bool:
        """Whether the queue may take one more job."""
        del task
        return len(self._works) + len(beside) < self.options.max_jobs

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks, and hand them to Slurm as soon as it takes jobs.

        Raises:
            MachineError: Slurm refuses them.
        """
        for task in tasks:
            there = _on_a_node(task, self.options.cpus_per_task)
            self._works[task.key] = Work(there, EventLog(self.queue.folder, task.key))
        self._hand_over()

    def wait(self, seconds: float) -> list[Event]:
        """What the store, the files of the jobs and the queue say that is new."""
        left = self._looked + LOOK_EVERY_S - time.monotonic()
        if left > 0:
            time.sleep(min(seconds, left))
            return []
        self._looked = time.monotonic()
        if self.queue.ask(LOOK_EVERY_S if self._stopping else ASK_EVERY_S):
            self._hand_over()
        refresh_listing(self.queue.folder)
        events: list[Event] = []
        for key, work in list(self._works.items()):
            events += work.log.news()
            outcome = self._look(work)
            if outcome is not None:
                self._failed = self._failed or outcome.error is not None
                del self._works[key]
                events.append(outcome)
        remarks, self._remarks = self._remarks, []
        return remarks + events

    def stop(self) -> None:
        """Let running jobs save their state and end, and take the others out of the queue."""
        self._stopping = True
        self._looked = 0.0
        if self._works:
            with suppress(OSError):  # what cannot be told to stay away is canceled in the end
                (self.queue.folder / STOP).touch()
            self.queue.cancel("--state=PENDING")
            self.queue.cancel("--state=RUNNING", "--signal=TERM")

    def close(self) -> None:
        """Cancel what is left. The files of the jobs stay if something failed."""
        if self._works or self._stopping or not self._have_left():
            self.queue.cancel()
        elif not self._failed:
            shutil.rmtree(self.queue.folder, ignore_errors=True)

    def _have_left(self) -> bool:
        """Whether the jobs of finished tasks ended by themselves; the last get a moment for it."""
        end = time.monotonic() + LEAVE_S
        while late := [files for files in self._finished if not files.result.exists()]:
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        return not late

    def _parameters(self) -> dict[str, Any]:
        """The options as submitit calls them."""
        options = self.options
        memory = options.memory_gb and f"{round(options.memory_gb * 1024)}M"
        threads = [f"export {name}={self.threads}" for name in THREAD_VARIABLES]
        return {
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "time": options.time_minutes,
            "mem": memory,
            "cpus_per_task": options.cpus_per_task,
            "gpus_per_node": self.gpus or None,
            "signal_delay_s": options.signal_seconds,
            "setup": [*options.setup, *threads],
            "stderr_to_stdout": True,
            # Since 22.05, srun does not take the number of cores over from sbatch.
            "srun_args": ["--mpi=none", f"--cpus-per-task={options.cpus_per_task}"],
            "additional_parameters": {"requeue": True, **options.extra},
        }

    def _hand_over(self) -> None:
        """Submit what has no job."""
        works = [work for work in self._works.values() if work.files is None]
        if not works or self._stopping:
            return
        limits = self.options.time_minutes, self.options.signal_seconds
        jobs = [Job(work.task, self.queue.folder, *limits) for work in works]
        try:
            submitted = self.queue.submit(jobs, self._parameters())
        except TryLater as error:
            self._warn_once(works[0], f"Slurm accepts no jobs at the moment ({error}); retrying")
            return
        for work, files in zip(works, submitted, strict=True):
            work.files, work.over_since = files, None
            work.checkpoint = newest_checkpoint(self.store, work.task.key)

    def _look(self, work: Work) -> Outcome | None:
        """The outcome of a task, if it has ended."""
        made = self.store.manifest(work.task.key)
        if made is not None:
            self._finished += [work.files] if work.files else []
            return Outcome(work.task.key, made=True, seconds=made.get("seconds", 0.0))
        if work.files is None:
            return stopped(work.task) if self._stopping else None
        outcome = left_by(work.task, work.files)
        if outcome is not None and (outcome.error or outcome.damaged):
            return outcome
        state = self.queue.state(work.files.number)
        if outcome is None and (state is None or not state.ended):
            work.over_since = None
            return self._queued(work, work.files, state or State())
        if self._stopping:
            return stopped(work.task)
        if self._comes_late(work):
            return None
        return outcome or self._over(work, work.files, state or State())

    def _queued(self, work: Work, files: JobFiles, state: State) -> Outcome | None:
        """A job waits or runs."""
        if state.hopeless:
            self.queue.cancel(files.number)
            return hopeless(work.task, files, state)
        if state.unusual:
            self._warn_once(work, f"{work.task.name} is waiting: Slurm reports {state.reason}")
        return None

    def _over(self, work: Work, files: JobFiles, state: State) -> Outcome | None:
        """A job ended without a result; the task gets another job, or fails."""
        if not self._goes_on(work, state):
            return lost(work.task, files, state)
        text = f"{work.task.name}: job {files.number} ended ({state.name}); it continues in another"
        self._remarks.append(Remark(work.task.key, text, warning=True))
        work.files, work.repeated = None, True
        return None

    def _comes_late(self, work: Work) -> bool:
        """Whether the files of a job that is over may still appear."""
        work.over_since = work.over_since or time.monotonic()
        refresh_listing(self.store.folder)
        refresh_listing(self.store.path(work.task.key).parent)
        return time.monotonic() - work.over_since < LATE_S

    def _goes_on(self, work: Work, state: State) -> bool:
        """Whether a task gets another job: after progress, or once if it was not to blame."""
        if newest_checkpoint(self.store, work.task.key) != work.checkpoint:
            return state.name in (*PASSING, "TIMEOUT")
        return state.name in PASSING and not work.repeated

    def _warn_once(self, work: Work, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._remarks.append(Remark(work.task.key, text, warning=True))


def _on_a_node(task: Task, cores: int) -> Task:
    """A job has its own cores, and sees its own GPUs only, whichever one the recipe names."""
    return replace(task, machine=replace(task.machine.seen_by_worker(), cores=cores))
