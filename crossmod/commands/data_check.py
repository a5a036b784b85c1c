"""`crossmod data check`: look into every file before anything is learned from it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.commands.options import AllowOutside, DataRoot, Settings
from crossmod.errors import DataError

if TYPE_CHECKING:
    from crossmod.intake import File, Survey

LABELS = re.compile(r"label|seg|mask|hidden", re.IGNORECASE)
"""In the name of a file or its folder, this says that it is a label map."""


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

    if target.is_dir():
        survey, root = _of_folder(target), target
    else:
        survey, root = _of_recipe(target, data, settings, allow_outside)
    for _, text in survey.remarks:
        console.out.print(f"note: {text}", style="yellow", markup=False, soft_wrap=True)
    if fix is not None:
        for line in _write_fixed(survey, root, fix):
            console.out.print(line, markup=False, soft_wrap=True)
    survey.require()
    console.out.print(f"{len(survey.facts)} files can be trusted; {len(survey.remarks)} notes")
    if target.is_dir():
        console.out.print("Whether they fit together: crossmod data check RECIPE --data DIR")


def _of_recipe(
    target: Path, data: Path | None, settings: list[str] | None, allow_outside: bool
) -> tuple[Survey, Path]:
    from crossmod.commands.plans import find_data, find_recipe, look_into
    from crossmod.recipe import load_all

    recipe = load_all(find_recipe(target), settings or [], allow_outside=allow_outside)[0].recipe
    root = find_data(recipe, data)
    if root is None:
        raise DataError("names no data folder", where=str(target), fix="give --data DIR")
    return look_into(recipe, root, allow_outside), root


def _of_folder(folder: Path) -> Survey:
    """Every file by itself."""
    from crossmod.classes import Classes
    from crossmod.commands.plans import intake_bar
    from crossmod.intake import Inspector, Intake, Survey

    files = list(_files(folder))
    if not files:
        raise DataError("holds neither NIfTI nor DICOM files", where=str(folder))
    found = Survey((), Classes({}))
    with intake_bar() as progress:
        found.read(files, Inspector(Intake()), progress)
    for path, facts in sorted(found.facts.items()):
        found.remarks += [("", f"{path}: {text}") for text in facts.remarks]
    return found


def _files(folder: Path) -> Iterator[File]:
    """The NIfTI files of a folder, and the folders of DICOM files in it."""
    from crossmod.dataset import NIFTI

    for place, _, names in sorted(os.walk(folder)):
        here = Path(place)
        images = [here / name for name in sorted(names) if name.endswith(NIFTI)]
        for path in images:
            named = f"{here.relative_to(folder)}/{path.name}"
            yield path, "labels" if LABELS.search(named) else "scan", ""
        if not images and any(_is_dicom(here / name) for name in names):
            yield here, "scan", ""


def _is_dicom(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _write_fixed(survey: Survey, root: Path, out: Path) -> Iterator[str]:
    """Copy the data folder; what was changed, file by file.

    Raises:
        DataError: the folder exists.
    """
    from crossmod.intake import mend

    if out.exists():
        raise DataError("exists already", where=str(out), fix="name a new folder")
    scans = {path: s.image for part in survey.parts for s in part.scans for path in part.maps(s)}
    copied = changed = 0
    for path, facts in survey.facts.items():
        copy = out / path.relative_to(root)
        changes = mend(path, facts, copy, survey.facts.get(scans.get(path, path)))
        changed += bool(changes)
        copied += 1
        if changes:
            yield f"{copy}: {'; '.join(changes)}"
        else:
            _copy(path, copy)
    yield f"{out}: {changed} of {copied} files corrected; what has problems is left out"


def _copy(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copyfile(path, copy)
