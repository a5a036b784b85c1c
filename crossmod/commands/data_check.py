"""`crossmod data check`: look into every file before anything is learned from it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.commands.options import AllowOutside, DataRoot, Settings
from crossmod.errors import DataError

if TYPE_CHECKING:
    from crossmod.intake import Limits, Survey
    from crossmod.recipe.model import Recipe


@dataclass(frozen=True)
class Checked:
    """A data folder whose files have been looked into.

    Attributes:
        root: the folder.
        survey: what is known of its files.
        limits: what a file may take.
    """

    root: Path
    survey: Survey
    limits: Limits


def check(
    target: Annotated[Path, typer.Argument(help="A recipe, or a folder of scans.")],
    data: DataRoot = None,
    settings: Settings = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a corrected copy of the data folder here, where that is safe."),
    ] = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Check every file of a data folder, and whether they fit together; say all that is wrong."""
    from crossmod import console
    from crossmod.commands.data_fix import write_fixed
    from crossmod.files.outputs import Inputs, require_new

    alone = _is_folder(target)
    recipe = None if alone else _recipe(target, settings, allow_outside)
    root = target if recipe is None else _data_of(recipe, target, data)
    if fix is not None:
        require_new(fix, Inputs(searched=(root,)))  # before hours of reading
    found = _of_recipe(recipe, root, allow_outside) if recipe else _of_folder(root)
    survey = found.survey
    for _, text in survey.remarks:
        console.out.print(f"note: {text}", style="yellow", markup=False, soft_wrap=True)
    if fix is not None:
        for line in write_fixed(survey, found.root, fix, found.limits):
            console.out.print(line, markup=False, soft_wrap=True)
    survey.require()
    console.out.print(f"{len(survey.facts)} files can be trusted; {len(survey.remarks)} notes")
    if alone:
        console.out.print("Whether they fit together: crossmod data check RECIPE --data DIR")


def _is_folder(target: Path) -> bool:
    with suppress(OSError):  # a name may be too long for the file system
        return target.is_dir()
    return False


def _recipe(target: Path, settings: list[str] | None, allow_outside: bool) -> Recipe:
    from crossmod.recipe.load import load_all
    from crossmod.recipe.names import find_recipe

    return load_all(find_recipe(target), settings or [], allow_outside=allow_outside)[0].recipe


def _data_of(recipe: Recipe, target: Path, data: Path | None) -> Path:
    from crossmod.commands.plans import find_data

    root = find_data(recipe, data)
    if root is None:
        raise DataError("names no data folder", where=str(target), fix="give --data DIR")
    return root


def _of_recipe(recipe: Recipe, root: Path, allow_outside: bool) -> Checked:
    from crossmod.commands.plans import look_into

    return Checked(root, look_into(recipe, root, allow_outside), recipe.intake.limits)


def _of_folder(root: Path) -> Checked:
    """Every file by itself."""
    from crossmod.commands.plans import intake_bar
    from crossmod.data.classes import Classes
    from crossmod.intake import Folder, Guesser, Intake, Survey

    there = Folder.of(root)
    if not there.files and not there.problems:
        raise DataError("holds neither NIfTI nor DICOM files", where=str(root))
    options = Intake()
    found = Survey((), Classes({}), problems=there.problems)
    with intake_bar() as progress:
        found.read(there.files, Guesser(options), progress)
    for path, facts in sorted(found.facts.items()):
        found.remarks += [("", f"{path}: {text}") for text in facts.remarks]
    found.remarks += [("", f"{link}: link: is not followed") for link in there.links]
    return Checked(root, found, options.limits)
