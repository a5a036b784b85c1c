"""What a run would do and take, and whether it fits the machine, before anything is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from crossmod.cost.estimates import Estimates, Estimator
from crossmod.cost.fits import Room, lacking_gpu, problems, require
from crossmod.cost.measured import Conditions, Earlier
from crossmod.cost.probing import Prober, may_be_large
from crossmod.cost.reasons import reason
from crossmod.engines.local import Local, LocalOptions
from crossmod.engines.profile import LOCAL
from crossmod.machine import (
    available_memory,
    gpu_memory,
    gpu_model,
    memory_limit,
    unused_gpus,
)
from crossmod.run.steps.extents import Extents

if TYPE_CHECKING:
    from crossmod.engines.profile import Profile
    from crossmod.run.api import Experiment
    from crossmod.run.steps import Step


@dataclass(frozen=True)
class PlannedStep:
    """A step of a run, and what would become of it.

    Attributes:
        label: the variant and seed; empty for the only run of a recipe.
        number: its place in the plan, from 1.
        step: the step.
        state: stored, to run, or shared with another variant.
        why: why it is to run.
    """

    label: str
    number: int
    step: Step
    state: str
    why: str


class Preview:
    """Looks at an experiment before it runs.

    Args:
        experiment: what to do.
        profile: where and how steps would be made.
    """

    def __init__(self, experiment: Experiment, profile: Profile) -> None:
        self.plans, self.store = experiment.plans, experiment.store
        self.folder = experiment.outputs.folder
        self.machine = experiment.machine(profile.checkpoint_minutes)
        self.here = profile.engine == LOCAL
        seen = self.machine if self.here else replace(self.machine, device="cpu")
        options = cast("LocalOptions", profile.options(LOCAL))
        self.local = Local(options, self.store, seen)
        self.gpus = self.local.gpus

    @cached_property
    def to_run(self) -> list[Step]:
        """The steps that are not stored, each once."""
        steps = {step.key: step for plan in self.plans for step in plan.steps}
        return [step for key, step in steps.items() if self.store.manifest(key) is None]

    @property
    def workers(self) -> int:
        """Steps made at the same time; on a cluster that depends on its other users."""
        return self.local.workers if self.here else 1

    def estimates(self, notify: Callable[[str], None], every: bool) -> Estimates:
        """Estimate the steps that are to run.

        Args:
            notify: takes the name of a step that is probed.
            every: probe all that nothing is known of, else only what may be too large, or what
                may share a GPU.
        """
        extents = Extents(self.store)
        conditions = Conditions(
            self._device,
            self.machine.precision,
            self.local.threads,
            gpu_model(self.machine.device) if self.gpus else "",
        )
        earlier = Earlier(self.store, extents, conditions)
        classes = self.plans[0].source.classes.labels
        gpu = self.gpus[0] if self.gpus else ""
        prober = Prober(self.store, extents, conditions, self.machine, classes, gpu, notify)
        able = self.here and not lacking_gpu(self.room)

        def wants(step: Step) -> bool:
            large = step.is_learner and may_be_large(step, extents.load(step))
            return every or self.local.shares_gpus or large

        estimator = Estimator(extents, earlier, prober if able else None, wants)
        return estimator.estimates(self.to_run)

    def require_room(self, notify: Callable[[str], None], force: bool = False) -> Estimates:
        """Estimate what is to run, and refuse what cannot fit.

        Only training steps that may be large are probed, so that this takes a moment, and where
        steps share a GPU, all that plugins make.

        Args:
            notify: takes the name of a step that is probed.
            force: run even if something does not fit.

        Raises:
            MachineError: all that does not fit.
        """
        if not self.to_run:
            return Estimates()
        estimates = self.estimates(notify, every=False)
        if not force:
            require(problems(estimates, self.room))
        return estimates

    def steps(self) -> list[PlannedStep]:
        """For every step of every run whether it is stored, will run and why, or is shared."""
        found = []
        to_run = {step.key for step in self.to_run}
        first: dict[str, str] = {}
        for plan in self.plans:
            label = plan.checked.label
            for number, step in enumerate(plan.steps, start=1):
                state, why = "stored", ""
                if step.key in first and step.key in to_run:
                    state = f"shared with {first[step.key]}"
                elif step.key in to_run:
                    state, why = "to run", reason(step, self.folder / label, self.store)
                first.setdefault(step.key, label)
                found.append(PlannedStep(label, number, step, state, why))
        return found

    @property
    def unused_gpus(self) -> list[str]:
        """Why GPUs of this machine would not be used, a line for each."""
        return unused_gpus(self.machine.device) if self.here else []

    @cached_property
    def room(self) -> Room:
        """What there is."""
        there = map(_existing, (self.folder, self.store.folder))
        places = {place.stat().st_dev: place for place in there}
        return Room(
            memory_limit() if self.here else None,
            available_memory(),
            {str(place): shutil.disk_usage(place).free for place in places.values()},
            self.machine.device,
            self._gpu_fault,
            gpu_memory(self.machine.device) if self.gpus else 0,
        )

    @property
    def _gpu_fault(self) -> str:
        """Why the GPU that the recipe asks for cannot be used here."""
        kind, _, number = self.machine.device.partition(":")
        if kind != "cuda" or self.gpus or not self.here:
            return ""
        from crossmod.torch.device import gpu_fault

        return gpu_fault(int(number or 0))

    @property
    def _device(self) -> str:
        """The kind of device steps are made on; empty where a cluster decides."""
        kind = self.machine.device.partition(":")[0]
        if kind == "auto" and self.here:
            return "cuda" if self.gpus else "cpu"
        return kind.removeprefix("auto")


def _existing(folder: Path) -> Path:
    """A folder as far as it exists; files of a run folder are links if it lies beside the store."""
    places = (folder.absolute(), *folder.absolute().parents)
    return next(place for place in places if place.exists())
