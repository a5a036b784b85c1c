"""`crossmod run` and `crossmod check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from crossmod.commands.options import AllowOutside, DataRoot, RecipeFile, Settings
from crossmod.commands.plans import find_data, inputs_of, make_plans, take_stock
from crossmod.errors import MachineError

if TYPE_CHECKING:
    from crossmod.console import RunConsole
    from crossmod.cost.estimates import Estimates
    from crossmod.engines.profile import Profile
    from crossmod.files.outputs import Inputs, Outputs
    from crossmod.recipe.load import Checked
    from crossmod.run.plan import Plan
    from crossmod.run.run import Run
    from crossmod.store.store import Store

SHOWN = 10
"""Remarks on the data that the terminal shows."""


class Places(NamedTuple):
    """Where a run writes.

    Attributes:
        outputs: into the run folder.
        store: the folder of results.
    """

    outputs: Outputs
    store: Path


WAITING = "another run works in this folder; waiting for it"


def run(
    recipe: RecipeFile,
    data: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/ and the recipe's name.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Where results are kept for reuse. Default: store/ beside the run."),
    ] = None,
    settings: Settings = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Makes the steps; `plugins` lists all engines. Default: the profile's."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="A file about your machine or cluster. Default: $CROSSMOD_PROFILE."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Steps made at the same time on this machine.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Show what would run, why, and what it would take; then stop.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Run even if this machine seems too small for it.")
    ] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Run a recipe; steps whose results are stored already are skipped."""
    from crossmod import console
    from crossmod.commands.dry_run import require_room, show_plan
    from crossmod.engines.profile import read_profile
    from crossmod.recipe.load import load_all
    from crossmod.recipe.names import find_recipe
    from crossmod.store.store import Store

    file = find_recipe(recipe)
    found = load_all(file, settings or [], allow_outside=allow_outside)
    root = find_data(found[0].recipe, data)
    outputs, stored_in = _places(file, out, store, inputs_of(found, root))
    folder = outputs.folder
    asked = read_profile(profile, engine=engine, workers=workers)
    shared = asked.on_shared_disk or None

    def opened() -> Store:
        return Store(stored_in, shared, make=not dry_run)

    plans = make_plans(found, root, allow_outside, opened)
    kept = opened()
    if dry_run:
        show_plan(plans, kept, folder, asked)
        return
    estimates = require_room(
        plans, kept, asked, force, lambda name: console.out.print(f"Probing {name}"), folder
    )
    runs = _execute(plans, kept, outputs, asked, estimates)
    if len(runs) > 1:
        _compare(runs, outputs)
    else:
        _show_scores(*runs[0])
    console.out.print(f"Report: {folder / 'report.html'}", markup=False)


def _places(recipe: Path, out: Path | None, store: Path | None, inputs: Inputs) -> Places:
    """The run folder and the store; what stands in the way is said before any work.

    Raises:
        DataError: they hold something that is not a run of this recipe or not a store, or they
            would mix with what is read.
        MachineError: one is a file, or they are the same or one lies in the other.
    """
    from crossmod.files.outputs import Outputs
    from crossmod.run.folder import RunFolder
    from crossmod.store.store import require_store

    folder = out or Path("runs") / recipe.stem
    kept = (store or folder.parent / "store").absolute()
    for place, option in ((folder, "--out"), (kept, "--store")):
        if place.exists() and not place.is_dir():
            raise MachineError("is a file", where=str(place), fix=f"name a folder with {option}")
    _require_apart(folder, kept)
    outputs = Outputs(folder, f"the run of {_known_as(recipe, folder)}", inputs)
    RunFolder(outputs).require_own()
    require_store(kept, inputs)
    return Places(outputs, kept)


def _require_apart(folder: Path, store: Path) -> None:
    one, other = folder.resolve(), store.resolve()
    fix = "name another folder with --out or --store"
    if one == other:
        raise MachineError("is the run folder and the store at once", where=str(folder), fix=fix)
    if one.is_relative_to(other):
        raise MachineError(f"the run folder lies in the store {store}", where=str(folder), fix=fix)
    if other.is_relative_to(one):
        raise MachineError(f"the store lies in the run folder {folder}", where=str(store), fix=fix)


def _known_as(recipe: Path, folder: Path) -> str:
    """What a run folder calls its recipe: its path from there, so that both may move together.

    One that came with crossmod has a name that does not depend on where crossmod is installed.
    """
    from crossmod.recipe.names import shipped

    own = shipped().get(recipe.stem)
    if own is not None and own.samefile(recipe):
        return recipe.stem
    return os.path.relpath(recipe.resolve(), folder.resolve())


def _execute(
    plans: list[tuple[Checked, Plan]],
    store: Store,
    outputs: Outputs,
    profile: Profile,
    estimates: Estimates,
) -> list[tuple[Checked, Run]]:
    """Make all steps of all plans, then the report of each."""
    from crossmod import console
    from crossmod.engines.profile import open_engine
    from crossmod.run.run import Run
    from crossmod.run.schedule import Scheduler, StopSign
    from crossmod.run.signals import stop_on_signal
    from crossmod.run.task import Machine
    from crossmod.store.runs import recorded

    recipe, folder = plans[0][0].recipe, outputs.folder
    machine = Machine(
        recipe.device, recipe.precision, recipe.determinism, profile.checkpoint_minutes
    )
    runs = [
        Run(plan, store, outputs.below(one.label), machine, one.label, estimates.memory_bytes)
        for one, plan in plans
    ]
    steps = {one.label: {step.name: step.key for step in plan.steps} for one, plan in plans}
    engine, sign = open_engine(profile, store, machine), StopSign()
    with (
        console.RunConsole() as watcher,
        stop_on_signal(sign, engine.close),
        _alone(store, folder, lambda: watcher.note(WAITING)),
    ):
        _claim(outputs, runs)
        with recorded(store, folder, recipe.title, steps):
            _tell_remarks([plan for _, plan in plans], watcher)
            Scheduler(runs, engine, watcher, sign).execute()
            for (checked, _), run in zip(plans, runs, strict=True):
                _publish(checked, run)
    return [(checked, run) for (checked, _), run in zip(plans, runs, strict=True)]


def _claim(outputs: Outputs, runs: list[Run]) -> None:
    """Make the run folder, and those of variants and seeds in it, the run's own."""
    outputs.claim()
    for run in runs:
        run.claim()


def _tell_remarks(plans: list[Plan], watcher: RunConsole) -> None:
    """Show what the intake found odd; all of it is in the log and the report."""
    texts = list(dict.fromkeys(text for plan in plans for _, text in plan.remarks))
    for text in texts[:SHOWN]:
        watcher.note(text)
    if len(texts) > SHOWN:
        watcher.note(f"{len(texts) - SHOWN} more remarks on the data are in the report")


def _alone(store: Store, folder: Path, waiting: Callable[[], None]) -> AbstractContextManager[None]:
    """Let no other run into a run folder; a store that is only read needs no guard."""
    from crossmod.store.runs import name_of

    return store.lock(name_of(store, folder), waiting) if store.writable else nullcontext()


def check(
    recipe: RecipeFile,
    data: DataRoot = None,
    settings: Settings = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Validate a recipe, and the data folder if one is named, without running anything."""
    from crossmod import console
    from crossmod.recipe.load import load_all
    from crossmod.recipe.names import find_recipe

    file = find_recipe(recipe)
    found = load_all(file, settings or [], allow_outside=allow_outside)
    title = found[0].recipe.title
    if data is not None:
        for line in take_stock(found[0].recipe, data, allow_outside).lines():
            console.out.print(line, soft_wrap=True, markup=False)
    runs = f" ({len(found)} runs)" if len(found) > 1 else ""
    named = f"{recipe}" if file == recipe else f"{recipe} ({file})"
    console.out.print(f"{named} is valid: {title}{runs}", soft_wrap=True, markup=False)


def _show_scores(checked: Checked, current: Run) -> None:
    from crossmod import console

    scores = current.scores()
    for table in console.summary_tables(scores, checked.recipe.data.class_table.labels):
        console.out.print(table)
    if not scores:
        console.out.print("No label maps to score against; predictions are in the run folder.")


def _compare(runs: list[tuple[Checked, Run]], outputs: Outputs) -> None:
    """Write and show the table over all variants and seeds."""
    from crossmod import console
    from crossmod.run.publish import publish_comparison

    comparison = publish_comparison(runs, outputs)
    for table in console.comparison_tables(comparison):
        console.out.print(table)


def _publish(checked: Checked, current: Run) -> None:
    """Write the locked recipe and the report into the run folder."""
    from crossmod.files.atomic import write_file
    from crossmod.recipe.lock import locked
    from crossmod.run.folder import LOCKED
    from crossmod.run.publish import publish_report

    text = locked(checked)
    with current.outputs.file(LOCKED) as file:
        write_file(file, text)
    publish_report(checked, current, text)
