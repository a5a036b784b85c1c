"""The engine that hands tasks to Ray."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crossmod import MachineError
from crossmod.engines import (
    THREAD_VARIABLES,
    Advance,
    Engine,
    Event,
    Interrupted,
    Machine,
    Outcome,
    Remark,
    Store,
    Task,
    cores,
    gpus,
    killed_for_memory,
)
from crossmod_ray.cluster import connected
from crossmod_ray.options import RayOptions
from crossmod_ray.work import Board, make

ANSWER_S = 30.0
"""Ray counts as dead when it has not answered for this long."""

KILLER = "Ray ended the process"

UNITS = {"CPU": (1, "CPU"), "GPU": (1, "GPU"), "memory": (1e9, "GB")}
"""Ray's name of a resource -> how it is told."""


@dataclass
class Job:
    """A task that was handed to Ray.

    Attributes:
        task: the task.
        reference: stands for its outcome.
        begun: whether it has sent an event.
        advance: how far it was.
        lost: times its machine or process was lost.
    """

    task: Task
    reference: Any = None
    begun: bool = False
    advance: Advance | None = None
    lost: int = 0


class Ray(Engine[RayOptions]):
    """Makes steps on Ray, which finds a place for each.

    The cluster is started or joined when the first task comes: a run that is finished needs none.
    With several machines the store is on a disk that all of them share.
    """

    def __init__(self, options: RayOptions, store: Store, machine: Machine) -> None:
        super().__init__(options, store, machine)
        self._ray: Any = None
        self._board: Any = None
        self._make: Any = None
        self._folder: Path | None = None
        self._jobs: dict[str, Job] = {}
        self._news: list[Event] = []
        self._stopping = False

    def takes(self, task: Task, beside: Sequence[Task] = ()) -> bool:
        """Whether one more task may wait or run."""
        del task
        return len(self._jobs) + len(beside) < self._room

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to Ray."""
        if self._ray is None:
            self._connect()
        for task in tasks:
            job = self._jobs[task.key] = Job(self._adapted(task))
            self._send(job)

    def wait(self, seconds: float) -> list[Event]:
        """Events of the tasks; one that was lost with its machine is restarted."""
        if self._ray is None:
            return []
        ended = []
        if self._jobs:
            jobs = {job.reference: job for job in self._jobs.values()}
            ended, _ = self._ray.wait(list(jobs), timeout=0 if self._news else seconds)
        self._hear()
        for reference in ended:
            if jobs[reference].task.key in self._jobs:
                self._conclude(jobs[reference])
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Ask all tasks to end at the next safe point; those that wait for a place leave."""
        self._stopping = True
        if self._ray is None:
            return
        self._board.stop.remote()
        self._hear()
        for job in self._jobs.values():
            if not job.begun:
                self._ray.cancel(job.reference)

    def close(self) -> None:
        """End the cluster that was started here; on another one, what this program has there."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._jobs.clear()

    @property
    def _room(self) -> float:
        """Tasks to hold at the same time."""
        if self.options.max_tasks or self.options.address:
            return self.options.max_tasks or math.inf
        room = cores() // self.options.cpus_per_task
        if self._gpus_per_task:
            room = min(room, int(len(gpus(self.machine.device)) / self._gpus_per_task))
        return max(room, 1)

    @cached_property
    def _gpus_per_task(self) -> float:
        device, wanted = self.machine.device, self.options.gpus_per_task
        if wanted is not None or device != "auto":
            return wanted if wanted is not None else float(device != "cpu")
        if self.options.address:
            return float("GPU" in self._ray.cluster_resources())
        return float(bool(gpus(device)))

    def _connect(self) -> None:
        """Start or join the cluster and create the board.

        Raises:
            MachineError: it cannot be.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="crossmod-ray-", dir="/tmp"))
        self._ray = ray = connected(self.options.address, self.machine.device, self._folder)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
        exact = self.machine.determinism == "exact" and not self._gpus_per_task
        threads = "1" if exact else str(self.options.cpus_per_task)
        self._make = ray.remote(
            # A process makes many steps, as imports take seconds; `make` gives their memory back.
            # Only the end of a process empties a GPU for the next one.
            max_calls=1 if self._gpus_per_task else 0,
            max_retries=0,  # `_conclude` does it, and says so
            num_cpus=self.options.cpus_per_task,
            num_gpus=self._gpus_per_task,
            runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, threads)},
        )(make)

    def _adapted(self, task: Task) -> Task:
        """A task for another process, maybe on another machine."""
        machine = replace(task.machine.seen_by_worker(), cores=self.options.cpus_per_task)
        return replace(task, machine=machine, shared=task.shared or bool(self.options.address))

    def _send(self, job: Job) -> None:
        """Hand a task to Ray, unless the cluster can never hold it."""
        task = job.task
        memory = self._memory(task)
        if lacking := self._lacking(memory):
            if not self.options.address:
                self._end(job, Outcome(task.key, error=_no_room(task, lacking)))
                return
            text = f"{task.name} is waiting: no machine of the cluster has {lacking}"
            self._news.append(Remark(task.key, text, True))
        options = {"name": task.name, "memory": memory or None}
        job.begun, job.advance = False, None
        job.reference = self._make.options(**options).remote(task, self._board, str(Path.cwd()))

    def _memory(self, task: Task) -> int:
        if self.options.memory_gb is not None:
            return int(self.options.memory_gb * 1e9)
        most = max((node.get("memory", 0) for node in self._nodes()), default=0)
        return min(task.memory_bytes, int(most))

    def _lacking(self, memory: int) -> str:
        """What a task needs, in words, where no machine has it; else nothing."""
        needs = {"CPU": self.options.cpus_per_task, "GPU": self._gpus_per_task, "memory": memory}
        for node in self._nodes():
            if all(node.get(name, 0) >= needed for name, needed in needs.items()):
                return ""
        amounts = [(needs[name] / unit, word) for name, (unit, word) in UNITS.items()]
        return " and ".join(f"{amount:.3g} {word}" for amount, word in amounts if amount)

    def _nodes(self) -> list[dict[str, float]]:
        """What each machine of the cluster has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _hear(self) -> None:
        """Take the events from the board; if it is gone, all tasks have failed."""
        try:
            events = self._ray.get(self._board.take.remote(), timeout=ANSWER_S)
        except self._ray.exceptions.RayError as error:
            for job in list(self._jobs.values()):
                explained = _cut_off(job, error)
                self._end(job, Outcome(job.task.key, error=explained, traceback=str(error)))
            return
        for event in events:
            if known := self._jobs.get(event.key):
                known.begun = True
                known.advance = event if isinstance(event, Advance) else known.advance
            self._news.append(event)

    def _end(self, job: Job, outcome: Outcome) -> None:
        self._jobs.pop(job.task.key, None)
        self._news.append(outcome)

    def _conclude(self, job: Job) -> None:
        """Take the outcome of a task, or restart it if its machine was lost."""
        kinds, task = self._ray.exceptions, job.task
        lost = (kinds.WorkerCrashedError, kinds.NodeDiedError, kinds.ObjectLostError,
                kinds.LocalRayletDiedError)  # fmt: skip
        try:
            self._end(job, self._ray.get(job.reference))
        except kinds.RayError as error:
            if self._stopping:
                stopped = Interrupted(f"{task.name} was stopped")
                self._end(job, Outcome(task.key, error=stopped))
            elif isinstance(error, lost) and job.lost < self.options.retries:
                job.lost += 1
                text = f"the machine or the process of {task.name} was lost; it restarts"
                self._news.append(Remark(task.key, text, True))
                self._send(job)
            else:
                explained = _explained(job, error, isinstance(error, lost))
                self._end(job, Outcome(task.key, error=explained, traceback=str(error)))


def _cut_off(job: Job, error: Exception) -> MachineError:
    if type(error).__name__ == "OutOfMemoryError":  # Ray ends the board last, after all tasks
        return killed_for_memory(job.task, job.advance, KILLER)
    return MachineError(
        "Ray does not answer on this machine",
        where=f"step {job.task.name}",
        fix="check that Ray is running there, then rerun to resume",
    )


def _no_room(task: Task, needs: str) -> MachineError:
    return MachineError(
        f"this machine does not have {needs}",
        where=f"step {task.name}",
        fix="ask for less in [ray] of the profile, or name the address of a larger cluster",
    )


def _explained(job: Job, error: Exception, lost: bool) -> MachineError:
    if type(error).__name__ == "OutOfMemoryError":
        return killed_for_memory(job.task, job.advance, KILLER)
    where, what = f"step {job.task.name}", str(error).partition("\n")[0]
    if lost:
        return MachineError(
            f"its machine or process was lost {job.lost + 1} times: {what}",
            where=where,
            fix="most likely memory ran out: raise memory_gb in [ray] of the profile, so that "
            "fewer steps share a machine, then rerun to resume",
        )
    return MachineError(
        f"Ray could not run it: {what}", where=where, fix="--traceback shows what Ray says"
    )
