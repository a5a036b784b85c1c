"""What every step of a plan would take: time, memory, disk, and how that is known."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossmod.cost.extents import Extents
from crossmod.cost.measured import LEARNERS, Earlier, Measured, phantom_cases
from crossmod.cost.probing import Prober
from crossmod.run.steps import (
    Augment,
    MakePhantom,
    PluginStep,
    Predict,
    Prepare,
    PseudoLabel,
    Regrid,
    Step,
    Translate,
)

COHORTS = (Prepare, Translate, Augment, PseudoLabel, Regrid)
"""Steps whose result is images, and label maps where there are any."""

SCAN_BYTES = 2_500_000
"""Of a case of the embedded cohort."""

LABEL_BYTES = 0.01
"""Of a voxel of a compressed label map, which is nearly empty."""


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
    wants: Callable[[PluginStep], bool]

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
        if measured or self.prober is None or not isinstance(step, PluginStep):
            return measured
        kept = self.prober.kept(step)
        if kept or not self.wants(step):
            return kept
        if not step.use.plugin.stage.probes:
            return Measured("probe", problem=f"not measured: {step.use.who} allows no probe")
        users = [
            one
            for one in steps
            if isinstance(one, PluginStep) and step.key in one.content["inputs"].values()
        ]
        others = [one for one in users if self.wants(one) and not self.earlier.of(one)]
        return self.prober.measure(step, others)

    def _estimate(self, step: Step, measured: Measured | None) -> Estimate:
        load, disk = self.extents.load(step), self._disk(step, measured)
        cases = load.count if load else phantom_cases(step.content)
        if measured is None:
            return Estimate(disk_bytes=disk)
        if measured.problem:
            problem, too_large = measured.problem, measured.too_large
            return Estimate(disk_bytes=disk, problem=problem, too_large=too_large)
        return Estimate(
            seconds=measured.seconds + measured.case_seconds * cases,
            memory_bytes=measured.memory_bytes or None,
            gpu_bytes=measured.gpu_bytes or None,
            disk_bytes=disk,
            source=measured.source,
        )

    def _disk(self, step: Step, measured: Measured | None) -> int | None:
        """By arithmetic, except for what a training has learned."""
        if isinstance(step, COHORTS):
            extent = self.extents.of(step)
            return extent.count * extent.volume_bytes if extent else None
        if isinstance(step, Predict):
            images, maps = self.extents.of(step.images), 1 + len(step.ensemble.classes.labels)
            if images is None:
                return None
            kept = images.lattice.voxels * maps * 2 if step.keep_probabilities else 0
            return images.count * (kept + int(images.native.voxels * LABEL_BYTES))
        if isinstance(step, MakePhantom):
            return phantom_cases(step.content) * SCAN_BYTES
        if isinstance(step, LEARNERS):
            return measured.state_bytes if measured and not measured.problem else None
        return 0
