"""`crossmod run` and `crossmod check`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.errors import RecipeError

if TYPE_CHECKING:
    from crossmod.plan import Plan
    from crossmod.recipe import Checked
    from crossmod.runner import Run
    from crossmod.store import Store

RecipeFile = Annotated[Path, typer.Argument(help="A recipe file, or the name of a shipped one.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a key of the recipe; repeatable."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The data folder. Default: what the recipe embeds, $CROSSMOD_DATA."
    ),
]


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
    dry_run: Annotated[bool, typer.Option(help="Show the plan and stop.")] = False,
) -> None:
    """Run a recipe; steps whose results are stored already are skipped."""
    from crossmod import console
    from crossmod.runner import Run
    from crossmod.store import Store

    plans = _plans(recipe, settings, data)
    folder = out or Path("runs") / recipe.stem
    kept = Store(store or folder.parent / "store")
    if dry_run:
        rows = _plan_rows(plans, kept)
        for table in console.plan_tables(rows):
            console.out.print(table)
        console.out.print(_count(rows))
        return
    runs = []
    with console.RunConsole() as watcher:
        for checked, plan in plans:
            machine = checked.recipe.device, checked.recipe.precision
            current = Run(plan, kept, folder / checked.label, watcher, *machine)
            watcher.begins(checked.label)
            current.execute()
            _publish(checked, current)
            runs.append((checked, current))
    if len(runs) > 1:
        _compare(runs, folder)
    else:
        _show_scores(*runs[0])
    console.out.print(f"Report: {folder / 'report.html'}")


def check(recipe: RecipeFile, data: DataRoot = None, settings: Settings = None) -> None:
    """Validate a recipe, and the data folder if one is named, without running anything."""
    from crossmod import console
    from crossmod.recipe import load_all
    from crossmod.splits import check_data

    found = load_all(_find(recipe), settings or [])
    title = found[0].recipe.title
    if data is not None:
        for line in check_data(found[0].recipe.data, data).lines():
            console.out.print(line, soft_wrap=True, markup=False)
    runs = f" ({len(found)} runs)" if len(found) > 1 else ""
    console.out.print(f"{recipe} is valid: {title}{runs}", soft_wrap=True)


def _plans(
    recipe: Path, settings: list[str] | None, data: Path | None
) -> list[tuple[Checked, Plan]]:
    from crossmod.plan import Planner
    from crossmod.recipe import load_all
    from crossmod.splits import check_data

    found = load_all(_find(recipe), settings or [])
    named = os.environ.get("CROSSMOD_DATA")
    if data is None and found[0].recipe.data.phantom is None and named:
        data = Path(named)
    digests: dict[str, dict[str, str]] = {}
    plans = []
    for checked in found:
        if data is not None:
            check_data(checked.recipe.data, data)
        plans.append((checked, Planner(checked, data, digests).plan()))
    return plans


def _plan_rows(
    plans: list[tuple[Checked, Plan]], store: Store
) -> dict[str, list[tuple[str, str, str]]]:
    """By variant: number, step, and whether it is stored, will run, or runs for another variant."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    seen: dict[str, str] = {}
    for checked, plan in plans:
        for number, step in enumerate(plan.steps, start=1):
            state = "stored" if store.manifest(step.key) else "to run"
            if state == "to run" and step.key in seen:
                state = f"shared with {seen[step.key]}"
            seen.setdefault(step.key, checked.label)
            rows.setdefault(checked.label, []).append((str(number), step.name, state))
    return rows


def _count(rows: dict[str, list[tuple[str, str, str]]]) -> str:
    states = [state for steps in rows.values() for _, _, state in steps]
    parts = [f"{states.count(state)} {state}" for state in ("to run", "stored")]
    others = len(states) - states.count("to run") - states.count("stored")
    return ", ".join(["Steps: " + parts[0], parts[1], f"{others} shared by variants"])


def _show_scores(checked: Checked, current: Run) -> None:
    from crossmod import console

    scores = current.scores()
    for table in console.summary_tables(scores, checked.recipe.data.class_table.labels):
        console.out.print(table)
    if not scores:
        console.out.print("No label maps to score against; predictions are in the run folder.")


def _compare(runs: list[tuple[Checked, Run]], folder: Path) -> None:
    """Write and show the table over all variants and seeds."""
    from crossmod import console
    from crossmod.results import publish_comparison

    comparison = publish_comparison(runs, folder)
    for table in console.comparison_tables(comparison):
        console.out.print(table)


def _publish(checked: Checked, current: Run) -> None:
    """Write the locked recipe and the report into the run folder."""
    from crossmod.lock import locked
    from crossmod.results import publish_report

    text = locked(checked)
    (current.folder / "recipe.lock.toml").write_text(text, encoding="utf-8")
    publish_report(checked, current, text)


def _find(recipe: Path) -> Path:
    """The file a user means: a path, or the name of a recipe that came with crossmod."""
    if recipe.is_file():
        return recipe
    package = Path(__file__).parents[1]
    shipped = [package / "_recipes", package.parent / "recipes"]
    names = [folder / f"{recipe.stem}.toml" for folder in shipped]
    found = next(
        (path for path in names if path.is_file() and recipe.parent.name in ("", "recipes")), None
    )
    if found is None:
        known = sorted({path.stem for folder in shipped for path in folder.glob("*.toml")})
        raise RecipeError("is not a file", where=str(recipe), allowed=", ".join(known))
    return found
