"""Tasks on this machine: one process for each GPU, or for each group of cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from crossmod.engines.worker import PATIENCE_S, STOP
from crossmod.errors import Interrupted, MachineError
from crossmod.lanes import cores
from crossmod.machine import GIB, THREAD_VARIABLES, gpu_memory, gpus, memory_limit
from crossmod.options import Options, Size
from crossmod.run.engine import Engine
from crossmod.run.execute import killed_for_memory, place_of
from crossmod.run.task import Advance, Event, Machine, Outcome, Task
from crossmod.stages.guard import programs
from crossmod.store.store import Store

MOST_WORKERS = 4
"""On a CPU; each holds a few GB, and few recipes have more than four steps to make at once."""

GROWN_BYTES = 2 * 2**30
"""A worker that still holds this much after a task is replaced: freed memory is seldom returned.
So is one that has used a GPU which others share, as only the end of a process empties it."""


GPU_BYTES_OF_WORKER = GIB
"""What a process that uses a GPU takes of its memory besides its tensors; 0.5 GB on an H100."""


MALLOC = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0"
    ":glibc.malloc.trim_threshold=2147483647"
}
"""Freed memory stays in the process instead of being faulted in again at every use, and a page
fault brings 2 MB, not 4 KB."""


class LocalOptions(Options):
    """Options of the local engine."""

    workers: Size | None = None
    """Steps made at the same time; by default one for each GPU, without one as many as there are
    cores, up to four. More than there are GPUs share them as far as their memory holds."""
    threads: Size | None = None
    """Threads of each worker; by default the cores are shared out. With `determinism = "exact"` an
    operation on a CPU runs in one. A worker that is alone also uses the cores of the idle ones."""


@dataclass
class Process:
    """A worker process and its current task.

    Attributes:
        process: the process.
        connection: takes tasks, brings events.
        log: what it prints.
        task: the task at work; None if idle.
        advance: its last event.
        stopping: whether it was asked to stop.
        cores: how many it was told to use.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    log: IO[Any]
    task: Task | None = None
    advance: Advance | None = None
    stopping: bool = False
    cores: int = 1

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


class Local(Engine[LocalOptions]):
    """Makes steps on this machine, in processes that are started when they are needed.

    Attributes:
        gpus: GPUs to share out; empty on a CPU.
        pool: the worker processes by number.
    """

    def __init__(self, options: LocalOptions, store: Store, machine: Machine) -> None:
        super().__init__(options, store, machine)
        self.gpus = gpus(machine.device)
        self.pool: dict[int, Process] = {}
        self._known: set[int] = set()

    @property
    def workers(self) -> int:
        """Tasks made at the same time."""
        return self.options.workers or len(self.gpus) or min(cores(), MOST_WORKERS)

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        if self.machine.determinism == "exact" and not self.gpus:
            return 1
        return self.options.threads or max(1, min(self._most_threads, cores() // self.workers))

    @property
    def cores(self) -> int:
        """Cores that all workers use together."""
        return max(1, min(cores(), self._most_threads * self.workers))

    @property
    def _most_threads(self) -> int:
        """What the profile or the environment allows a worker."""
        named = os.environ.get("OMP_NUM_THREADS", "")
        limit = int(named) if named.isdecimal() and int(named) else cores()
        return self.options.threads or limit

    def takes(self, task: Task, beside: Sequence[Task] = ()) -> bool:
        """Whether a worker is free, and memory for what the task may need beside the others."""
        busy = [*beside, *(worker.task for worker in self.pool.values() if worker.task)]
        if len(busy) >= self.workers:
            return False
        needed = task.memory_bytes + sum(other.memory_bytes for other in busy)
        if busy and needed > memory_limit():
            return False
        return len(self._slots([*beside, task])) == len(beside) + 1

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to idle workers, starting new ones as needed."""
        for slot, task in zip(self._slots(tasks), tasks, strict=True):
            worker = self.pool.get(slot) or self._start(slot)
            self.pool[slot] = worker
            worker.task, worker.advance = task, None
            worker.connection.send(replace(task, machine=self._machine_of(task)))
        self._share_cores()

    def wait(self, seconds: float) -> list[Event]:
        """Events of the workers; a worker that died has failed its task."""
        sources = {worker.connection: slot for slot, worker in self.pool.items()}
        if not sources:
            return []
        heard = wait(list(sources), seconds)
        events: list[Event] = []
        for connection, slot in sources.items():
            if connection in heard:
                events.append(self._receive(slot))
            elif self.pool[slot].process.poll() is not None:  # a program it forked holds the line
                events.append(self._died(slot))
        self._share_cores()
        return events

    def stop(self) -> None:
        """Ask every worker to end at the next safe point; idle ones leave."""
        for slot, worker in list(self.pool.items()):
            if worker.task is None:
                self._remove(slot)
            else:
                worker.stopping = True
                worker.connection.send(STOP)

    def close(self) -> None:
        """Kill all workers, and the programs that were started there."""
        for slot in list(self.pool):
            self._remove(slot)

    def _share_cores(self) -> None:
        """Tell each worker how many cores it may use while others are idle."""
        busy = [worker for worker in self.pool.values() if worker.task]
        for place, worker in enumerate(busy):
            share = max(1, self.cores // len(busy) + (place < self.cores % len(busy)))
            if share != worker.cores:
                worker.cores = share
                with suppress(OSError):  # it died; `wait` finds out
                    worker.connection.send(share)

    def _machine_of(self, task: Task) -> Machine:
        return task.machine.seen_by_worker() if self.gpus else task.machine

    @property
    def shares_gpus(self) -> bool:
        """Whether steps may be made side by side on one GPU."""
        return 0 < len(self.gpus) < self.workers

    @cached_property
    def _gpu_bytes(self) -> int:
        """What the smallest GPU has for the tensors of all its workers."""
        most = -(-self.workers // len(self.gpus))
        return gpu_memory(self.machine.device) - most * GPU_BYTES_OF_WORKER

    def _slots(self, tasks: Sequence[Task]) -> list[int]:
        """Idle workers for the first tasks, up to one that has to wait for room on a GPU."""
        taken = {slot: worker.task for slot, worker in self.pool.items() if worker.task}
        found: list[int] = []
        for task in tasks:
            idle = (n for n in range(self.workers) if n not in taken)
            fitting = [n for n in idle if self._fits(task, self._on_gpu_of(n, taken))]
            if not fitting:
                break
            slot = min(fitting, key=lambda n: len(self._on_gpu_of(n, taken)))
            taken[slot] = task
            found.append(slot)
        return found

    def _on_gpu_of(self, slot: int, taken: Mapping[int, Task]) -> list[Task]:
        """The tasks that use the GPU of a worker."""
        count = len(self.gpus) or self.workers
        beside = [task for n, task in taken.items() if n % count == slot % count]
        return [task for task in beside if task.gpu_bytes != 0]

    def _fits(self, task: Task, beside: Sequence[Task]) -> bool:
        """Whether a GPU holds a task beside others; one of unknown size has it for itself."""
        if not beside or task.gpu_bytes == 0:
            return True
        sizes = [one.gpu_bytes for one in (task, *beside)]
        known = [size for size in sizes if size is not None]
        return len(known) == len(sizes) and sum(known) <= self._gpu_bytes

    def _receive(self, slot: int) -> Event:
        try:
            event: Event = self.pool[slot].connection.recv()
        except (EOFError, OSError):
            return self._died(slot)
        self._note(slot, event)
        return event

    def _start(self, slot: int) -> Process:
        if not self.pool:
            self._known = programs.children()
            programs.adopt(True)
        ours, theirs = Pipe()
        log = tempfile.TemporaryFile()  # noqa: SIM115
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        environment = {**MALLOC, **os.environ, **threads}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "crossmod.engines.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        return Process(process, ours, log)

    def _note(self, slot: int, event: Event) -> None:
        worker = self.pool[slot]
        if isinstance(event, Advance):
            worker.advance = event
        elif isinstance(event, Outcome):
            used_gpu = worker.task is not None and worker.task.gpu_bytes != 0
            worker.task = None
            if event.resident_bytes > GROWN_BYTES or (self.shares_gpus and used_gpu):
                self._remove(slot)

    def _died(self, slot: int) -> Outcome:
        worker = self.pool[slot]
        task = worker.task
        code = worker.process.wait()
        worker.log.seek(0)
        printed = worker.log.read().decode(errors="replace")[-2000:]
        self._remove(slot)
        if task is None:
            return Outcome("")
        if worker.stopping and code == Interrupted.exit_code:
            text = f"{task.name} did not stop within {PATIENCE_S:.0f} s and will restart"
            return Outcome(task.key, error=Interrupted(text))
        return Outcome(task.key, error=_death(task, worker.advance, code), traceback=printed)

    def _remove(self, slot: int) -> None:
        self.pool.pop(slot).end()
        programs.end_orphans({*self._known, *(one.process.pid for one in self.pool.values())})


def _death(task: Task, last: Advance | None, code: int) -> MachineError:
    if -code == signal.SIGKILL:
        what = "the system killed the worker, most likely for lack of memory"
        return killed_for_memory(task, last, what)
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return MachineError(
        f"the worker died ({name})",
        where=place_of(task),
        fix="see what it printed with --traceback; rerun to resume",
    )
