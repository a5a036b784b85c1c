"""`crossmod run` and `crossmod check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.commands.options import AllowOutside, DataRoot, RecipeFile, Settings

if TYPE_CHECKING:
    from crossmod.cost.preview import Preview
    from crossmod.run.api import Executed


def run(
    recipe: RecipeFile,
    data: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/NAME, after the recipe.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Where results are kept for reuse. Default: store/ beside the run."),
    ] = None,
    settings: Settings = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What runs the steps; `plugins` lists all engines. Default: the profile's."
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="A file that describes your machine or cluster. Default: $CROSSMOD_PROFILE."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many steps run at the same time on this machine.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Show what would run, why, and at what cost, without running it.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Run even if this machine seems too small.")] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Run a recipe; steps whose results are already stored are skipped."""
    from crossmod import console
    from crossmod.cost.preview import Preview
    from crossmod.engines.profile import read_profile
    from crossmod.progress.carry_out import carry_out
    from crossmod.run import api

    asked = read_profile(profile, engine=engine, workers=workers)
    with console.Bar("intake") as bar:
        experiment = api.plan(
            recipe,
            data,
            out=out,
            store=store,
            settings=settings or (),
            allow_outside=allow_outside,
            shared=asked.on_shared_disk or None,
            make=not dry_run,
            progress=bar,
        )
    preview = Preview(experiment, asked)
    if dry_run or preview.to_run:
        for reason in preview.unused_gpus:
            console.remark(f"warning: GPU not used: {reason}")
    if dry_run:
        _show_plan(preview)
        return
    with console.pausing():
        estimates = preview.require_room(lambda name: console.out.print(f"Probing {name}"), force)
    with console.pausing(), console.RunConsole() as observer:
        done = carry_out(
            experiment, preview, estimates, asked, observer, tell=console.tell_without_terminal
        )
    _show(done)


def _show_plan(preview: Preview) -> None:
    """Print what is stored, what would run, why, and at what cost."""
    from crossmod import console
    from crossmod.commands.plan_table import closing_lines, plan_table

    with console.pausing(), console.out.status("Estimating") as status:
        estimates = preview.estimates(
            lambda name: status.update(f"Estimating: the first steps of {name}"), every=True
        )
    steps = preview.steps()
    for label in dict.fromkeys(one.label for one in steps):
        own = [one for one in steps if one.label == label]
        console.show(plan_table(label, own, estimates), keys=2)
    for line in closing_lines(steps, estimates, preview.room, preview.workers):
        console.out.print(line, markup=False, soft_wrap=True)


def _show(done: Executed) -> None:
    """Print the scores, or the comparison of several runs."""
    from crossmod import console

    if done.comparison is not None:
        for table in console.comparison_tables(done.comparison):
            console.show(table, keys=2)
    else:
        [run] = done.runs
        scores, classes = run.scores(), run.plan.source.classes
        for table in console.summary_tables(scores, classes.labels):
            console.show(table, keys=2)
        notes = dict(run.notes())
        for step in (*(choice.name for choice in run.plan.choices), "survival"):
            for line in notes.get(step, ()):
                console.out.print(f"{line[:1].upper()}{line[1:]}", markup=False, soft_wrap=True)
        if not scores:
            console.out.print(
                "No references to score against; find the predictions in the run folder."
            )
    console.out.print(f"Report: {done.report}", markup=False)


def check(
    recipe: RecipeFile,
    data: DataRoot = None,
    settings: Settings = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Validate a recipe, and the label maps of the data folder if one is named; run nothing."""
    from crossmod import console
    from crossmod.recipe.names import find_recipe
    from crossmod.run.check import check as look

    file = find_recipe(recipe)
    with console.Bar("label maps") as bar:
        found = look(file, data, settings or (), allow_outside=allow_outside, progress=bar)
    for text in found.notes:
        console.remark(f"note: {text}")
    for text in found.warnings:
        console.remark(f"warning: {text}")
    for line in found.lines:
        console.out.print(line, soft_wrap=True, markup=False)
    found.require()
    count = len(found.examined.runs)
    runs = f" ({count} runs)" if count > 1 else ""
    named = f"{recipe}" if file == recipe else f"{recipe} ({file})"
    title = found.examined.recipes[0].title
    console.out.print(f"{named} is valid: {title}{runs}", soft_wrap=True, markup=False)
