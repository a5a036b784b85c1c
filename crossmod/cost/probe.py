"""A process that runs the first steps of a training, or the first cases of a step, and times them.

A step is made as in a run, from stand-ins for its inputs, in a temporary store.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from crossmod.cost import synthetic
from crossmod.cost.measured import Measured
from crossmod.data.cohorts import Cohort
from crossmod.data.state import STATE
from crossmod.machine import forget_gpu_peak, gpu_peak_bytes, held_at, peak_bytes
from crossmod.run.execute import Maker
from crossmod.run.steps import Step
from crossmod.run.steps.extents import Extent, cohort_in
from crossmod.run.task import Machine, Task
from crossmod.stages.guard import is_out_of_memory
from crossmod.stages.guard.programs import end_with_parent
from crossmod.store.checkpoints import Checkpoints
from crossmod.store.store import Store

ItemT = TypeVar("ItemT")

CASES = 3
"""The last one counts; the first one loads, compiles and allocates."""


@dataclass(frozen=True)
class ProbeRequest:
    """What a process measures.

    Attributes:
        steps: a training, then steps that use its result; or a single step that needs none.
        extents: name of a step -> the cohort it gives.
        classes: class name -> label.
        machine: how to compute.
        limit_bytes: of memory that may be taken; 0 means no limit.
    """

    steps: tuple[Step, ...]
    extents: Mapping[str, Extent]
    classes: Mapping[str, int]
    machine: Machine
    limit_bytes: int = 0


class FirstSteps(Checkpoints):
    """Runs two steps of each phase of a training, and adds the time of those it skips."""

    to_the_end = False

    def __init__(self, work: Path, finish: Callable[[], None]) -> None:
        super().__init__(work / "none", work, minutes=math.inf)
        self.finish = finish
        self.left_out_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Time that all steps would have taken, once the device has finished."""
        self.finish()
        return super().seconds + self.left_out_seconds

    def steps(self, start: int, total: int, phase: int | None) -> Iterator[int]:
        """Two steps of each phase; the second one counts."""
        for begin in range(start, total, phase or total):
            end = min(begin + (phase or total), total)
            for step in range(begin, min(begin + 2, end)):
                self.finish()
                began = time.monotonic()
                yield step
                self.finish()
            self.left_out_seconds += (time.monotonic() - began) * max(0, end - begin - 2)


class CaseTimer:
    """Notes when each item of the outermost loop begins."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.loops = 0

    def __call__(
        self, items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        """Yield the items."""
        self.loops += 1  # now, not when the loop begins: others may begin within it
        return self._noted(items) if self.loops == 1 else iter(items)

    def last(self, otherwise: float) -> float:
        """Seconds between the last two items."""
        return self.begun[-1] - self.begun[-2] if len(self.begun) > 1 else otherwise

    def _noted(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        for item in items:
            self.begun.append(time.monotonic())
            yield item


@dataclass
class ProbeMaker(Maker):
    """Makes the beginning of a task.

    Attributes:
        finish: waits until the device has finished.
        timer: notes when cases begin.
    """

    finish: Callable[[], None] = lambda: None
    timer: CaseTimer = field(default_factory=CaseTimer, init=False)

    def checkpoints(self, folder: Path) -> Checkpoints:
        """No checkpoints are kept; a training runs only its first steps."""
        return FirstSteps(folder, self.finish)

    def progress(
        self, items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        """Yield the items."""
        return self.timer(items, total=total, label=label)


class Probe:
    """Makes the steps of a request.

    Args:
        request: what to measure.
        scratch: an empty folder.
    """

    def __init__(self, request: ProbeRequest, scratch: Path) -> None:
        import torch

        from crossmod.torch import resolve_device

        self.request, self.store = request, Store(scratch, shared=False)
        self.device = resolve_device(request.machine.device)
        self.cuda = torch.cuda if self.device.startswith("cuda") else None
        self._learned = scratch / "nothing"

    def measure(self, step: Step) -> Measured:
        """Make a step; what its result would have cost."""
        for needed in step.inputs:
            self._place(needed, None if step.is_learner else CASES)
        request = self.request
        task = Task(step.key, step, self.store.folder, request.classes, request.machine)
        maker = ProbeMaker(task, finish=self._finish)
        forget_gpu_peak(self.device)
        seconds = maker.make() or 0.0
        gpu_bytes = gpu_peak_bytes(self.device)
        cost = Measured("probe", memory_bytes=peak_bytes(), gpu_bytes=gpu_bytes)
        folder = step.folder(self.store)
        if step.is_learner:
            self._learned = folder
            return replace(cost, seconds=seconds, state_bytes=(folder / STATE).stat().st_size)
        each, made = maker.timer.last(seconds / CASES), cohort_in(folder)
        cost = replace(cost, seconds=max(0.0, seconds - CASES * each), case_seconds=each)
        return replace(cost, copies=len(made) / CASES) if made is not None else cost

    def _place(self, step: Step, most: int | None) -> None:
        """Write a stand-in: all cases to learn from, few to go through one by one."""
        folder = self.store.path(step.key)
        if step.is_learner:  # one training stands for all folds
            if not folder.exists():
                shutil.copytree(self._learned, folder, copy_function=os.link)
            return
        shutil.rmtree(folder, ignore_errors=True)  # a training had all cases
        if extent := self.request.extents.get(step.name):
            few = replace(extent, cases=extent.cases[:most])
            synthetic.write_cohort(folder, few, self.request.classes)
        elif step.predicted is not None:
            self._place(step.predicted, most)
            cohort = Cohort.load(self.store.path(step.predicted.key))
            lattice = self.request.extents[step.predicted.name].lattice
            synthetic.write_predictions(folder, cohort, lattice)

    def _finish(self) -> None:
        """Wait until the GPU has finished."""
        if self.cuda:
            self.cuda.synchronize(self.device)


def main() -> None:
    """Measure the request in one file and write a line for each step into another."""
    given, results = map(Path, sys.argv[1:3])
    end_with_parent(int(sys.argv[3]))
    request: ProbeRequest = pickle.loads(given.read_bytes())  # written by the parent
    with suppress(OSError):  # if memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if limit := request.limit_bytes:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with tempfile.TemporaryDirectory(dir=given.parent) as scratch, results.open("w") as file:
        probe = Probe(request, Path(scratch))
        for step in request.steps:
            measured = _measured(probe, step)
            print(json.dumps(asdict(measured)), file=file, flush=True)
            if measured.problem:
                return


def _measured(probe: Probe, step: Step) -> Measured:
    try:
        return probe.measure(step)
    except Exception as error:
        text = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2]
        if is_out_of_memory(error):
            return Measured("probe", problem=f"{text}; {held_at(error)}", too_large=True)
        return Measured("probe", problem=text or type(error).__name__)


if __name__ == "__main__":
    main()
