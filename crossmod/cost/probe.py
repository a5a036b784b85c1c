"""A process that does the first steps of a training, or the first cases of a step, and times them.

A step is made as in a run, from stand-ins for its inputs, in a folder that is thrown away.
"""

from __future__ import annotations

import json
import math
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from crossmod.cost import synthetic
from crossmod.cost.extents import Extent, cohort_in
from crossmod.cost.measured import LEARNERS, Measured
from crossmod.data.state import STATE
from crossmod.data.volumes import Cohort
from crossmod.machine import forget_peak, held_at, peak_bytes
from crossmod.run.steps import PluginStep, Predict, Step
from crossmod.run.task import Machine
from crossmod.stages.base import Context
from crossmod.stages.guard import guarded, is_out_of_memory
from crossmod.stages.guard.programs import end_with_parent
from crossmod.store.checkpoints import Checkpoints

ItemT = TypeVar("ItemT")

CASES = 3
"""The last one counts; the first one loads, compiles and allocates."""


@dataclass(frozen=True)
class Job:
    """What a process measures.

    Attributes:
        steps: a training, then steps that use its result; or a single step that needs none.
        extents: name of a step -> the cohort it gives.
        classes: class name -> label.
        machine: how to compute.
        limit_bytes: of memory that may be taken; 0 is no limit.
    """

    steps: tuple[PluginStep, ...]
    extents: Mapping[str, Extent]
    classes: Mapping[str, int]
    machine: Machine
    limit_bytes: int = 0


class FirstSteps(Checkpoints):
    """Lets a training do two steps of each phase, and counts the time of those it leaves out."""

    def __init__(self, work: Path, finish: Callable[[], None]) -> None:
        super().__init__(work / "none", work, minutes=math.inf)
        self.finish = finish
        self.left_out_seconds = 0.0

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


class Probe:
    """Makes the steps of a job in a folder.

    Args:
        job: what to measure.
        scratch: an empty folder.
    """

    def __init__(self, job: Job, scratch: Path) -> None:
        from crossmod.torch import resolve_device, resolve_precision, set_up

        self.job, self.scratch = job, scratch
        self.device = resolve_device(job.machine.device)
        self.precision = resolve_precision(job.machine.precision, self.device)
        set_up(job.machine.determinism, self.device)

    def measure(self, step: PluginStep) -> Measured:
        """Make a step; what its result would have cost."""
        learns = isinstance(step, LEARNERS)
        folder = self.scratch / (_LEARNED if learns else f"made-{step.name}")
        folder.mkdir()
        place = partial(self._input, step)
        for needed in step.inputs:
            place(needed)  # written now, so that it is not timed
        steps, timer = FirstSteps(folder, self._finish), CaseTimer()
        ctx = Context(
            folder=folder,
            seed=step.seed,
            classes=self.job.classes,
            device=self.device,
            precision=self.precision,
            checkpoints=steps,
            progress=timer,
        )
        forget_peak()
        self._forget_gpu()
        begin = time.monotonic()
        with guarded(step.use.who, step.seed, (folder,), self.scratch, lambda text: None):
            step.make(place, ctx)
        self._finish()
        seconds = time.monotonic() - begin
        cost = Measured("probe", memory_bytes=peak_bytes(), gpu_bytes=self._gpu_bytes())
        if learns:
            size = (folder / STATE).stat().st_size
            return replace(cost, seconds=seconds + steps.left_out_seconds, state_bytes=size)
        each, made = timer.last(seconds / CASES), cohort_in(folder)
        cost = replace(cost, seconds=max(0.0, seconds - CASES * each), case_seconds=each)
        return replace(cost, copies=len(made) / CASES) if made is not None else cost

    def _input(self, of: PluginStep, step: Step) -> Path:
        """The folder of a stand-in: all cases to learn from, few to go through one by one."""
        if isinstance(step, LEARNERS):
            return self.scratch / _LEARNED
        most = None if isinstance(of, LEARNERS) else CASES
        folder = self.scratch / f"{step.name}-{most}"
        if not folder.exists():
            self._write(of, step, folder, most)
        return folder

    def _write(self, of: PluginStep, step: Step, folder: Path, most: int | None) -> None:
        if step.name in self.job.extents:
            extent = self.job.extents[step.name]
            few = replace(extent, cases=extent.cases[:most])
            synthetic.write_cohort(folder, few, self.job.classes)
        elif isinstance(step, Predict):
            images = Cohort.load(self._input(of, step.images))
            lattice = self.job.extents[step.images.name].lattice
            synthetic.write_predictions(folder, images, lattice)

    def _finish(self) -> None:
        """Wait until a GPU has done what it was given."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)

    def _forget_gpu(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def _gpu_bytes(self) -> int:
        if not self.device.startswith("cuda"):
            return 0
        import torch

        return int(torch.cuda.max_memory_reserved(self.device))


_LEARNED = "learned"


def main() -> None:
    """Measure the job in one file and write a line for each step into another."""
    given, results = map(Path, sys.argv[1:3])
    end_with_parent(int(sys.argv[3]))
    job: Job = pickle.loads(given.read_bytes())  # written by the parent
    with suppress(OSError):  # if memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if job.limit_bytes:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (job.limit_bytes, job.limit_bytes))
    with tempfile.TemporaryDirectory(dir=given.parent) as scratch, results.open("w") as file:
        probe = Probe(job, Path(scratch))
        for step in job.steps:
            measured = _measured(probe, step)
            print(json.dumps(asdict(measured)), file=file, flush=True)
            if measured.problem:
                return


def _measured(probe: Probe, step: PluginStep) -> Measured:
    try:
        return probe.measure(step)
    except Exception as error:
        text = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2]
        if is_out_of_memory(error):
            return Measured("probe", problem=f"{text}; {held_at(error)}", too_large=True)
        return Measured("probe", problem=text or type(error).__name__)


if __name__ == "__main__":
    main()
