"""What every step of a plan would take: time, memory, disk, and how that is known."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossmod.cost.measured import Earlier, Measured
from crossmod.cost.probing import Prober
from crossmod.run.steps import Step
from crossmod.run.steps.extents import Extents


@dataclass(frozen=True)
class Estimate:
    """What a step would take; None is unknown.

    Attributes:
        seconds: of a worker.
        memory_bytes: the largest resident set of the worker.
        gpu_bytes: memory of the GPU.
        disk_bytes: what its result takes.
        source: where time and memory come from: "earlier", "probe" or nothing.
        problem: why a probe failed.
        too_large: whether it failed for want of memory.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    disk_bytes: int | None = None
    source: str = ""
    problem: str = ""
    too_large: bool = False


@dataclass
class Estimates:
    """The estimates of all steps that are to run.

    Attributes:
        steps: by key, each once, in an order in which they can be made.
        of: key -> estimate.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    of: dict[str, Estimate] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> dict[str, int]:
        """Key -> peak of memory, where it is known."""
        return {key: one.memory_bytes for key, one in self.of.items() if one.memory_bytes}

    @property
    def gpu_bytes(self) -> dict[str, int]:
        """Key -> memory of a GPU, where it is known; some steps take none."""
        found = {key: one.gpu_bytes for key, one in self.of.items()}
        return {key: size for key, size in found.items() if size is not None}

    @property
    def disk_bytes(self) -> int:
        """What all results take, as far as it is known."""
        return sum(one.disk_bytes or 0 for one in self.of.values())

    def seconds(self, workers: int) -> float:
        """Until all is made, as far as it is known, where what most others wait for goes first."""
        spans = {key: one.seconds or 0.0 for key, one in self.of.items()}
        inputs = {k: [i.key for i in s.inputs if i.key in spans] for k, s in self.steps.items()}
        urgency = dict(spans)
        for key in reversed(list(self.steps)):
            for needed in inputs[key]:
                urgency[needed] = max(urgency[needed], spans[needed] + urgency[key])
        now, waiting, done = 0.0, set(spans), set[str]()
        working: list[tuple[float, str]] = []
        while waiting or working:
            ready = [key for key in waiting if done.issuperset(inputs[key])]
            for key in sorted(ready, key=lambda k: -urgency[k])[: workers - len(working)]:
                waiting.remove(key)
                heapq.heappush(working, (now + spans[key], key))
            now, ended = heapq.heappop(working)
            done.add(ended)
        return now


@dataclass
class Estimator:
    """Estimates the steps of plans.

    Attributes:
        extents: the cohorts of the plans.
        earlier: finds results of the same work.
        prober: measures what nobody has made yet; None without a machine to measure on.
        wants: whether a step is worth a probe.
    """

    extents: Extents
    earlier: Earlier
    prober: Prober | None
    wants: Callable[[Step], bool]

    def estimates(self, steps: Sequence[Step]) -> Estimates:
        """Estimate all steps that are to run; inputs come before what needs them."""
        found = Estimates({step.key: step for step in steps})
        for key, step in found.steps.items():
            measured = self._measured(step, steps)
            if measured is not None:
                self.extents.copies[key] = measured.copies
            found.of[key] = self._estimate(step, measured)
        return found

    def _measured(self, step: Step, steps: Sequence[Step]) -> Measured | None:
        measured = self.earlier.of(step)
        if measured or self.prober is None or not step.who:
            return measured
        kept = self.prober.kept(step)
        if kept or not self.wants(step):
            return kept
        if not step.may_be_probed:
            return Measured("probe", problem=f"not measured: {step.who} cannot be probed")
        users = [one for one in steps if one.who and step.key in one.content["inputs"].values()]
        others = [one for one in users if self.wants(one) and not self.earlier.of(one)]
        return self.prober.measure(step, others)

    def _estimate(self, step: Step, measured: Measured | None) -> Estimate:
        load = self.extents.load(step)
        cases = load.count if load else step.cases_of(step.settings)
        known = measured if measured and not measured.problem else None
        learned = known.state_bytes if known else None  # the only size that is not arithmetic
        disk = learned if step.is_learner else step.disk_bytes(self.extents)
        if known is None:
            why = measured or Measured("")
            return Estimate(disk_bytes=disk, problem=why.problem, too_large=why.too_large)
        return Estimate(
            seconds=known.seconds + known.case_seconds * cases,
            memory_bytes=known.memory_bytes or None,
            gpu_bytes=known.gpu_bytes,
            disk_bytes=disk,
            source=known.source,
        )
