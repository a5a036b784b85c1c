"""What a run would do and take, and whether it fits: `crossmod run --dry-run`, and before a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from crossmod.cost.estimates import Estimates, Estimator
from crossmod.cost.fits import Room, lacking_gpu, problems, require
from crossmod.cost.measured import Conditions, Earlier
from crossmod.cost.probing import Prober, may_be_large
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
from crossmod.run.task import Machine

if TYPE_CHECKING:
    from crossmod.commands.plan_table import Row
    from crossmod.engines.profile import Profile
    from crossmod.recipe.load import Checked
    from crossmod.run.plan import Plan
    from crossmod.run.steps import Step
    from crossmod.store.store import Store

    Plans = list[tuple[Checked, Plan]]


class Preview:
    """Looks at plans before they run.

    Args:
        plans: what to do.
        store: where results are kept.
        folder: the run folder.
        profile: where and how steps would be made.
    """

    def __init__(self, plans: Plans, store: Store, folder: Path, profile: Profile) -> None:
        self.plans, self.store, self.folder = plans, store, folder
        recipe = plans[0][0].recipe
        self.machine = Machine(recipe.device, recipe.precision, recipe.determinism)
        self.here = profile.engine == LOCAL
        seen = self.machine if self.here else replace(self.machine, device="cpu")
        self.local = Local(cast("LocalOptions", profile.options(LOCAL)), store, seen)
        self.gpus = self.local.gpus

    @cached_property
    def to_run(self) -> list[Step]:
        """The steps that are not stored, each once."""
        steps = {step.key: step for _, plan in self.plans for step in plan.steps}
        return [step for key, step in steps.items() if self.store.manifest(key) is None]

    @property
    def workers(self) -> int:
        """Steps made at the same time; on a cluster that depends on its other users."""
        return self.local.workers if self.here else 1

    def estimates(self, notify: Callable[[str], None], every: bool) -> Estimates:
        """Estimate the steps that are to run.

        Args:
            notify: takes the name of a step that is probed.
            every: probe all that nothing is known of, else only what may be too large.
        """
        extents = Extents(self.store)
        conditions = Conditions(
            self._device,
            self.machine.precision,
            self.local.threads,
            gpu_model(self.machine.device) if self.gpus else "",
        )
        earlier = Earlier(self.store, extents, conditions)
        classes = self.plans[0][1].source.classes.labels
        gpu = self.gpus[0] if self.gpus else ""
        prober = Prober(self.store, extents, conditions, self.machine, classes, gpu, notify)
        able = self.here and not lacking_gpu(self.room)

        def wants(step: Step) -> bool:
            return every or (step.is_learner and may_be_large(step, extents.load(step)))

        estimator = Estimator(extents, earlier, prober if able else None, wants)
        return estimator.estimates(self.to_run)

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


def require_room(
    plans: Plans,
    store: Store,
    profile: Profile,
    force: bool,
    notify: Callable[[str], None],
    folder: Path,
) -> Estimates:
    """Estimate what is to run, and refuse what cannot fit.

    Only trainings that may be large are probed, so that this takes a moment.

    Args:
        plans: what to do.
        store: where results are kept.
        profile: where and how steps are made.
        force: go on all the same.
        notify: takes the name of a step that is probed.
        folder: the run folder, which may lie on another disk than the store.

    Raises:
        MachineError: all that does not fit.
    """
    preview = Preview(plans, store, folder, profile)
    if not preview.to_run:
        return Estimates()
    _warn_of_unused_gpus(preview)
    estimates = preview.estimates(notify, every=False)
    if not force:
        require(problems(estimates, preview.room))
    return estimates


def show_plan(plans: Plans, store: Store, folder: Path, profile: Profile) -> None:
    """Print what is stored, what would run and why, and what that would take."""
    from crossmod import console
    from crossmod.commands.plan_table import closing_lines, plan_table

    preview = Preview(plans, store, folder, profile)
    _warn_of_unused_gpus(preview)
    with console.out.status("Estimating") as status:
        estimates = preview.estimates(
            lambda name: status.update(f"Estimating: the first steps of {name}"), every=True
        )
    rows = _rows(preview)
    for label in dict.fromkeys(row.label for row in rows):
        own = [row for row in rows if row.label == label]
        console.out.print(plan_table(label, own, estimates))
    for line in closing_lines(rows, estimates, preview.room, preview.workers):
        console.out.print(line, markup=False, soft_wrap=True)


def _warn_of_unused_gpus(preview: Preview) -> None:
    from crossmod import console

    for reason in unused_gpus(preview.machine.device) if preview.here else ():
        text = f"warning: a GPU is not used: {reason}"
        console.out.print(text, style="yellow", markup=False, soft_wrap=True)


def _rows(preview: Preview) -> list[Row]:
    """For every step of every variant whether it is stored, will run and why, or is shared."""
    from crossmod.commands.plan_table import Row
    from crossmod.cost.reasons import reason

    rows = []
    to_run = {step.key for step in preview.to_run}
    first: dict[str, str] = {}
    for checked, plan in preview.plans:
        label = checked.label
        for number, step in enumerate(plan.steps, start=1):
            state, why = "stored", ""
            if step.key in first and step.key in to_run:
                state = f"shared with {first[step.key]}"
            elif step.key in to_run:
                state, why = "to run", reason(step, preview.folder / label, preview.store)
            first.setdefault(step.key, label)
            rows.append(Row(label, number, step, state, why))
    return rows
