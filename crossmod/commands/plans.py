"""From what stands on a command line to plans: the recipe, the data folder, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossmod.data.folder import Inventory
    from crossmod.files.outputs import Inputs
    from crossmod.intake import Progress, Survey
    from crossmod.recipe.load import Checked
    from crossmod.recipe.model import Recipe
    from crossmod.run.plan import Plan
    from crossmod.store.store import Store


def find_data(recipe: Recipe, data: Path | None) -> Path | None:
    """The data folder: as named, as the environment says, or None for the embedded cohort."""
    named = os.environ.get("CROSSMOD_DATA")
    if data is None and recipe.data.phantom is None and named:
        data = Path(named)
    return data.absolute() if data is not None else None


def inputs_of(found: list[Checked], data: Path | None) -> Inputs:
    """What a run reads: its recipes, the data folder, and where its patterns lead otherwise."""
    from crossmod.data.folder import NIFTI
    from crossmod.files.outputs import Inputs
    from crossmod.files.patterns import CASE

    files = found[0].document.files
    if data is None:
        return Inputs(files)
    listed, searched = list[Path](), [data]
    for pattern in {one for checked in found for one in checked.recipe.patterns}:
        start, _, rest = pattern.partition(CASE)
        flat = "/" not in rest and pattern.endswith(NIFTI)
        (listed if flat else searched).append(data / start.rpartition("/")[0])
    return Inputs(files, tuple(listed), tuple(searched))


def take_stock(recipe: Recipe, data: Path, allow_outside: bool) -> Inventory:
    """The scans of a data folder, none of them elsewhere."""
    from crossmod.files.patterns import refuse_links
    from crossmod.run.scans import check_data

    if not allow_outside:
        refuse_links(data, recipe.patterns)
    return check_data(recipe.data, data)


def look_into(
    recipe: Recipe,
    data: Path,
    allow_outside: bool,
    store: Callable[[], Store] | None = None,
    digests: dict[Path, str] | None = None,
) -> Survey:
    """Every file of a data folder that a recipe uses, with a bar that shows how far it is.

    ``store`` opens the one that remembers them, once scans are found.
    """
    from crossmod.run.scans import survey_data
    from crossmod.store.store import is_store

    inventory = take_stock(recipe, data, allow_outside)
    with intake_bar() as progress:
        kept = store().folder if store else None
        memory = kept / "intake" if kept and is_store(kept) else None
        return survey_data(
            recipe, data, inventory, memory=memory, digests=digests, progress=progress
        )


@contextmanager
def intake_bar() -> Iterator[Progress]:
    """Shows how many files have been looked into."""
    from crossmod import console

    with console.RunConsole() as watcher:
        bar = console.StepBar(watcher.progress, "intake")
        yield lambda items, total: bar(items, total=total)


def make_plans(
    found: list[Checked], data: Path | None, allow_outside: bool, store: Callable[[], Store]
) -> list[tuple[Checked, Plan]]:
    """The plan of each run of a recipe, once its files have been looked into.

    Raises:
        DataError: names everything that is wrong with the files.
    """
    from crossmod.run.plan import Planner

    digests: dict[Path, str] = {}
    plans = []
    for checked in found:
        remarks: list[tuple[str, str]] = []
        if data is not None:
            # Variants and seeds share files; each is read for its digest once.
            survey = look_into(checked.recipe, data, allow_outside, store, digests)
            survey.require()
            remarks = survey.remarks
        plan = Planner(checked, data, digests).plan()
        steps = {"source": plan.source, "target": plan.target, "validation": plan.validation}
        plan.remarks += [(step, text) for split, text in remarks if (step := steps[split])]
        plans.append((checked, plan))
    return plans
