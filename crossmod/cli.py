"""The command line. Heavy imports happen inside commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.errors import CrossmodError, DataError, MachineError, RecipeError

if TYPE_CHECKING:
    from crossmod.plan import Plan
    from crossmod.recipe import Checked
    from crossmod.runner import Run
    from crossmod.store import Store

app = typer.Typer(
    help="Teach a segmentation model a modality nobody has labeled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Make and look after data folders.", no_args_is_help=True)
app.add_typer(data_app, name="data")

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
DEBUG = "CROSSMOD_TRACEBACK"


@app.callback()
def options(
    traceback: Annotated[bool, typer.Option(help="Show where in the code an error arose.")] = False,
) -> None:
    """Options of every command."""
    if traceback:
        os.environ[DEBUG] = "1"


@app.command()
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

    checked, plan = _plan(recipe, settings, data)
    folder = out or Path("runs") / recipe.stem
    kept = Store(store or folder.parent / "store")
    if dry_run:
        rows = _plan_rows(plan, kept)
        console.out.print(console.plan_table(rows))
        return
    with console.RunConsole() as watcher:
        current = Run(plan, kept, folder, watcher, checked.recipe.device, checked.recipe.precision)
        current.execute()
        _publish(checked, current)
    scores = current.scores()
    for table in console.summary_tables(scores, checked.recipe.data.classes):
        console.out.print(table)
    if not scores:
        console.out.print("No label maps to score against; predictions are in the run folder.")
    console.out.print(f"Report: {folder / 'report.html'}")


@app.command()
def check(recipe: RecipeFile, data: DataRoot = None, settings: Settings = None) -> None:
    """Validate a recipe, and the data folder if one is named, without running anything."""
    from crossmod import console
    from crossmod.plan import check_data
    from crossmod.recipe import load

    checked = load(_find(recipe), settings or [])
    if data is not None:
        check_data(checked.recipe.data, data)
    console.out.print(f"{recipe} is valid: {checked.recipe.title}")


@app.command()
def plugins(
    name: Annotated[str | None, typer.Argument(help="Show the options of this plugin.")] = None,
) -> None:
    """List plugins, or explain one."""
    from crossmod import console
    from crossmod import plugins as found
    from crossmod.explain import option_rows, plugin_rows

    if name is None:
        console.out.print(console.plugin_table(plugin_rows()))
        return
    plugin = found.load(name)
    console.out.print(f"{name} ({plugin.kind}): {plugin.summary}")
    console.out.print(console.options_table(option_rows(plugin.stage.options_type)))


@data_app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write into; must not exist.")],
    source: Annotated[int, typer.Option(min=1, help="Labeled ceT1 scans.")] = 24,
    target: Annotated[int, typer.Option(min=1, help="Unlabeled hrT2 scans.")] = 24,
    validation: Annotated[int, typer.Option(min=1, help="hrT2 scans for scoring.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed makes other patients.")] = 1,
) -> None:
    """Write the embedded cohort as a CrossMoDA 2022 data folder."""
    from crossmod import console
    from crossmod.phantom import write_cohort

    if out.exists() and any(out.iterdir()):
        raise DataError("is not empty", where=str(out), fix="name a new folder")
    with console.RunConsole() as watcher:
        bar = console.StepBar(watcher.progress, "phantom")
        write_cohort(
            out,
            source=source,
            target=target,
            validation=validation,
            seed=seed,
            progress=lambda items, total: bar(items, total=total),
        )
    console.out.print(f"{source + target + validation} scans in {out}")


def _plan(recipe: Path, settings: list[str] | None, data: Path | None) -> tuple[Checked, Plan]:
    from crossmod.plan import Planner, check_data
    from crossmod.recipe import load

    checked = load(_find(recipe), settings or [])
    named = os.environ.get("CROSSMOD_DATA")
    if data is None and checked.recipe.data.phantom is None and named:
        data = Path(named)
    if data is not None:
        check_data(checked.recipe.data, data)
    return checked, Planner(checked, data).plan()


def _plan_rows(plan: Plan, store: Store) -> list[tuple[str, str, str]]:
    return [
        (str(number), step.name, "stored" if store.manifest(step.key) else "to run")
        for number, step in enumerate(plan.steps, start=1)
    ]


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
    package = Path(__file__).parent
    shipped = [package / "_recipes", package.parent / "recipes"]
    names = [folder / f"{recipe.stem}.toml" for folder in shipped]
    found = next(
        (path for path in names if path.is_file() and recipe.parent.name in ("", "recipes")), None
    )
    if found is None:
        known = sorted({path.stem for folder in shipped for path in folder.glob("*.toml")})
        raise RecipeError("is not a file", where=str(recipe), allowed=", ".join(known))
    return found


def main() -> None:
    """Run the command line; errors become messages and exit codes."""
    try:
        app()
    except CrossmodError as error:
        _stop(error, error.exit_code)
    except KeyboardInterrupt:
        interrupted = MachineError(
            "interrupted", fix="finished steps are kept: run the same command again to go on"
        )
        _stop(interrupted, 5)


def _stop(error: CrossmodError, exit_code: int) -> None:
    from crossmod.console import show_error

    if os.environ.get(DEBUG):
        raise error
    show_error(error)
    sys.exit(exit_code)
