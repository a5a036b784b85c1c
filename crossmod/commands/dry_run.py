"""What a run would do and take, and whether it fits: `crossmod run --dry-run`, and before a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from crossmod.cost.estimates import Estimates, Estimator
from crossmod.cost.extents import Extents
from crossmod.cost.fits import Room, lacking_gpu, problems, require
from crossmod.cost.machine import available_memory, memory_limit
from crossmod.cost.measured import LEARNERS, Conditions, Earlier
from crossmod.cost.probing import Prober, may_be_large
from crossmod.engines.local import Local, gpus
from crossmod.tasks import Machine

if TYPE_CHECKING:
    from crossmod.commands.plan_table import Row
    from crossmod.engines.profile import Profile
    from crossmod.plan import Plan
    from crossmod.recipe import Checked
    from crossmod.steps import PluginStep, Step
    from crossmod.store import Store

    Plans = list[tuple[Checked, Plan]]


class Preview:
    """Looks at plans before they run.

    Args:
        plans: what to do.
        store: where results are kept.
        profile: where and how steps would be made.
    """

    def __init__(self, plans: Plans, store: Store, profile: Profile) -> None:
        self.plans, self.store, self.profile = plans, store, profile
        recipe = plans[0][0].recipe
        self.machine = Machine(recipe.device, recipe.precision, recipe.determinism)
        self.here = profile.engine == "local"
        self.gpus = gpus(recipe.device) if self.here else []
        self.local = Local(profile.local, self.gpus, recipe.determinism == "exact")

    @cached_property
    def to_run(self) -> list[Step]:
        """The steps that are not stored, each once."""
        steps = {step.key: step for _, plan in self.plans for step in plan.steps}
        return [step for key, step in steps.items() if self.store.manifest(key) is None]

    @property
    def workers(self) -> int:
        """Steps made at the same time; on a cluster that depends on its other users."""
        return self.local.workers if self.here else 1

    def estimates(
        self, every: bool = True, notify: Callable[[str], None] = lambda name: None
    ) -> Estimates:
        """Estimate the steps that are to run.

        Args:
            every: probe all that nothing is known of, else only what may be too large.
            notify: takes the name of a step that is probed.
        """
        extents = Extents(self.store)
        device = "cuda" if self.gpus else "cpu"
        conditions = Conditions(device, self.machine.precision, self.local.threads)
        earlier = Earlier(self.store, extents, conditions)
        classes = self.plans[0][1].source.classes.labels
        gpu = self.gpus[0] if self.gpus else ""
        prober = Prober(self.store, extents, conditions, self.machine, classes, gpu, notify)
        able = self.here and not lacking_gpu(self.room())

        def wants(step: PluginStep) -> bool:
            return every or (isinstance(step, LEARNERS) and may_be_large(step, extents.load(step)))

        estimator = Estimator(extents, earlier, prober if able else None, wants)
        return estimator.estimates(self.to_run)

    def room(self) -> Room:
        """What there is."""
        return Room(
            memory_limit() if self.here else None,
            available_memory(),
            shutil.disk_usage(self.store.folder).free,
            str(self.store.folder),
            self.machine.device,
            len(gpus("auto")) if self.here else None,
        )


def require_room(
    plans: Plans, store: Store, profile: Profile, force: bool, notify: Callable[[str], None]
) -> Estimates:
    """Estimate what is to run, and refuse what cannot fit.

    Only trainings that may be large are probed, so that this takes a moment.

    Args:
        plans: what to do.
        store: where results are kept.
        profile: where and how steps are made.
        force: go on all the same.
        notify: takes the name of a step that is probed.

    Raises:
        MachineError: all that does not fit.
    """
    preview = Preview(plans, store, profile)
    if not preview.to_run:
        return Estimates()
    estimates = preview.estimates(every=False, notify=notify)
    if not force:
        require(problems(estimates, preview.room()))
    return estimates


def show_plan(plans: Plans, store: Store, folder: Path, profile: Profile) -> None:
    """Print what is stored, what would run and why, and what that would take."""
    from crossmod import console
    from crossmod.commands.plan_table import closing_lines, plan_table

    preview = Preview(plans, store, profile)
    with console.out.status("Estimating") as status:
        estimates = preview.estimates(
            notify=lambda name: status.update(f"Estimating: the first steps of {name}")
        )
    room = preview.room()
    rows = _rows(preview, folder)
    for label in dict.fromkeys(row.label for row in rows):
        own = [row for row in rows if row.label == label]
        console.out.print(plan_table(label, own, estimates))
    for line in closing_lines(rows, estimates, room, preview.workers):
        console.out.print(line, markup=False, soft_wrap=True)


def _rows(preview: Preview, folder: Path) -> list[Row]:
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
                state, why = "to run", reason(step, folder / label, preview.store)
            first.setdefault(step.key, label)
            rows.append(Row(label, number, step, state, why))
    return rows
