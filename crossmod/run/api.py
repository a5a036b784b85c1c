"""A recipe from its file to its report: `plan` it, then `execute` it. Nothing is printed here.

Whoever calls hands in what shows progress, and the engine that makes the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod.files.outputs import Outputs
from crossmod.files.patterns import files_of
from crossmod.intake.survey import require_none
from crossmod.recipe.load import load_all
from crossmod.recipe.model import Recipe
from crossmod.recipe.names import find_recipe
from crossmod.run.data import (
    check_data,
    find_data,
    inputs_of,
    reading_of,
    survey_data,
    too_small,
)
from crossmod.run.engine import Engine
from crossmod.run.folder import choose_places
from crossmod.run.foresight import Looked, foresee
from crossmod.run.known import KnownFiles
from crossmod.run.plan import Plan
from crossmod.run.planner import Planner
from crossmod.run.publish import publish_comparison, publish_report
from crossmod.run.run import Run
from crossmod.run.schedule import Observer, Scheduler, StopSign
from crossmod.run.task import Machine
from crossmod.scores.comparison import Comparison
from crossmod.stages.context import Progress, silent_progress
from crossmod.store.runs import name_of, recorded
from crossmod.store.store import Store, is_store

MAX_REMARKS = 10
"""Remarks on the data that the observer is told; all are in the log and the report."""

WAITING = "another run is using this folder; waiting for it to finish"


@dataclass(frozen=True)
class Experiment:
    """All runs of a recipe, one for each variant and seed, before anything is made.

    Attributes:
        plans: what to do in each run.
        store: where results are kept for reuse.
        outputs: writes into the run folder.
    """

    plans: Sequence[Plan]
    store: Store
    outputs: Outputs

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first run, whose title, device and precision hold for all."""
        return self.plans[0].checked.recipe

    def machine(self, checkpoint_minutes: float = 5.0) -> Machine:
        """How the recipe wants to be computed."""
        recipe = self.recipe
        return Machine(recipe.device, recipe.precision, recipe.determinism, checkpoint_minutes)


@dataclass(frozen=True)
class Executed:
    """What became of an experiment.

    Attributes:
        runs: every variant with every seed.
        comparison: the table over them; None of a single run.
        report: the page about all of it.
    """

    runs: Sequence[Run]
    comparison: Comparison | None
    report: Path


def plan(
    recipe: Path,
    data: Path | None = None,
    *,
    out: Path | None = None,
    store: Path | None = None,
    settings: Sequence[str] = (),
    allow_outside: bool = False,
    shared: bool | None = None,
    make: bool = True,
    progress: Progress = silent_progress,
) -> Experiment:
    """Read a recipe, check every file it uses, and plan its runs.

    Args:
        recipe: a file, or the name of a shipped recipe.
        data: the data folder; by default what the recipe embeds, or $CROSSMOD_DATA.
        out: the run folder; by default ``runs/`` and the recipe's name.
        store: where results are kept for reuse; by default ``store/`` beside the run folder.
        settings: ``a.b=c`` overrides of the recipe.
        allow_outside: follow links out of the data folder, and `extends` out of the recipe's.
        shared: whether several machines work in the store; None asks the file system.
        make: make the store if it is not there yet.
        progress: wraps the iteration over files.

    Raises:
        RecipeError: names everything that is wrong with the recipe.
        DataError: names everything that is wrong with the files, or where a folder is not ours.
        MachineError: a folder cannot be used.
    """
    file = find_recipe(recipe)
    found = load_all(file, settings, allow_outside=allow_outside)
    root = find_data(found[0].recipe, data)
    outputs, kept = choose_places(file, out, store, inputs_of(found, root))
    if root is None:
        require_none(list(dict.fromkeys(text for one in found for text in too_small(one.recipe))))
        plans = [Planner(one, None).plan() for one in found]
        return Experiment(plans, Store(kept, shared, make=make), outputs)
    readings = {reading_of(one.recipe): one.recipe for one in found}  # variants share most of them
    inventories = {
        key: check_data(one, root, allow_outside=allow_outside) for key, one in readings.items()
    }
    opened = Store(kept, shared, make=make)  # not before there are scans
    memory = kept / "intake" if is_store(kept) else None
    patterns = {pattern for one in found for pattern in one.recipe.patterns}
    known = KnownFiles(root, memory, files_of(root, patterns))
    digests = known.digests  # each file is read once
    seen: dict[str, Looked] = {}
    plans = []
    for checked in found:
        key = reading_of(checked.recipe)
        inventory = inventories[key]
        if key not in seen:
            surveyed = survey_data(
                checked.recipe, root, inventory, memory=memory, digests=digests, progress=progress
            )
            seen[key] = Looked(checked.recipe, inventory, surveyed)
        survey = seen[key].survey
        foreseen = foresee(checked, seen[key])
        require_none([*survey.problems, *foreseen.problems])
        planned = Planner(checked, root, digests).plan()
        planned.remark(survey.remarks)
        planned.remark(("source", f"warning: {text}") for text in foreseen.warnings)
        plans.append(planned)
    known.keep()
    return Experiment(plans, opened, outputs)


def execute(
    experiment: Experiment,
    machine: Machine,
    engine: Engine[Any],
    observer: Observer,
    *,
    memory_bytes: Mapping[str, int] | None = None,
    gpu_bytes: Mapping[str, int] | None = None,
    stop_sign: StopSign | None = None,
) -> Executed:
    """Make all steps of all runs, then the report of each and the comparison of several.

    Args:
        experiment: what to do.
        machine: how to compute.
        engine: makes the steps; it is closed at the end.
        observer: receives all events.
        memory_bytes: key -> what a step may take, where that is known.
        gpu_bytes: key -> what it may take of a GPU, where that is known.
        stop_sign: raised by whoever wants the runs to end early.

    Raises:
        Interrupted: the sign was raised; running training has saved its state.
        CrossmodError: a step failed; nothing new was begun after that.
    """
    store, outputs = experiment.store, experiment.outputs
    sign = StopSign() if stop_sign is None else stop_sign  # a sign that is not raised is false
    runs = [
        Run(
            one,
            store,
            outputs.below(one.checked.label),
            machine,
            memory_bytes or {},
            gpu_bytes or {},
        )
        for one in experiment.plans
    ]
    steps = {run.label: {step.name: step.key for step in run.plan.steps} for run in runs}
    with _alone(experiment, observer):
        outputs.claim()
        for run in runs:
            run.claim()
        with recorded(store, outputs.folder, experiment.recipe.title, steps):
            _tell_remarks(experiment, observer)
            Scheduler(runs, engine, observer, sign).execute()
            for run in runs:
                publish_report(run)
            comparison = publish_comparison(runs, outputs) if len(runs) > 1 else None
    return Executed(runs, comparison, outputs.folder / "report.html")


def _alone(experiment: Experiment, observer: Observer) -> AbstractContextManager[None]:
    """Let no other run into a run folder; a store that is only read needs no guard."""
    store, folder = experiment.store, experiment.outputs.folder
    if not store.writable:
        return nullcontext()
    return store.lock(name_of(store, folder), lambda: observer.note(WAITING))


def _tell_remarks(experiment: Experiment, observer: Observer) -> None:
    """Tell what the intake found odd."""
    texts = list(dict.fromkeys(text for one in experiment.plans for _, text in one.remarks))
    for text in texts[:MAX_REMARKS]:
        observer.note(text)
    if len(texts) > MAX_REMARKS:
        observer.note(f"{len(texts) - MAX_REMARKS} more notes on the data are in the report")
