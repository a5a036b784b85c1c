"""`crossmod data check`: inspect every file before training."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.commands.options import AllowOutside, DataRoot, Settings
from crossmod.errors import DataError, counted

if TYPE_CHECKING:
    from crossmod.intake import Survey
    from crossmod.recipe.model import Recipe


def check(
    target: Annotated[Path, typer.Argument(help="A recipe, or a folder of scans.")],
    data: DataRoot = None,
    settings: Settings = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write a corrected copy of the data folder here; only safe corrections are made."
        ),
    ] = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Check every file of a data folder, and that they fit together; report every problem."""
    from crossmod import console
    from crossmod.files.outputs import Inputs, require_new
    from crossmod.intake import Intake
    from crossmod.intake.fix import write_fixed
    from crossmod.run.data import find_data

    recipe = None if _is_folder(target) else _recipe(target, settings, allow_outside)
    root = find_data(recipe, data) if recipe else target
    if root is None:
        raise DataError("does not name a data folder", where=str(target), fix="add --data DIR")
    if fix is not None:
        require_new(fix, Inputs(searched=(root,)))  # before hours of reading
    options = recipe.intake if recipe else Intake()
    survey = _surveyed(recipe, root, allow_outside)
    for _, text in survey.remarks:
        console.remark(f"note: {text}")
    if fix is not None:
        for line in write_fixed(survey, root, fix, options.limits):
            console.out.print(line, markup=False, soft_wrap=True)
    survey.require()
    files, notes = counted(len(survey.facts), "file"), counted(len(survey.remarks), "note")
    console.out.print(f"{files} can be trusted; {notes}")
    if recipe is None:
        console.out.print("To check that they fit together: crossmod data check RECIPE --data DIR")


def _surveyed(recipe: Recipe | None, root: Path, allow_outside: bool) -> Survey:
    """What is known of a data folder; says which scans and classes it holds for a recipe."""
    from crossmod import console
    from crossmod.intake import Intake, survey_folder
    from crossmod.intake.classes import lines_on_classes
    from crossmod.run.data import check_data, survey_data

    if recipe is None:
        with console.Bar("intake") as bar:
            return survey_folder(root, Intake(), bar)
    inventory = check_data(recipe, root, allow_outside=allow_outside)
    with console.Bar("intake") as bar:
        survey = survey_data(recipe, root, inventory, progress=bar)
    for line in (*inventory.lines(), *lines_on_classes(survey)):
        console.out.print(line, soft_wrap=True, markup=False)
    return survey


def _is_folder(target: Path) -> bool:
    with suppress(OSError):  # a name may be too long for the file system
        return target.is_dir()
    return False


def _recipe(target: Path, settings: list[str] | None, allow_outside: bool) -> Recipe:
    from crossmod.recipe.load import load_all
    from crossmod.recipe.names import find_recipe

    return load_all(
        find_recipe(target, "a folder of scans, "), settings or [], allow_outside=allow_outside
    )[0].recipe
