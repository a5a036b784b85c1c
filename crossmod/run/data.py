"""The data folder of a recipe: which it is, what is read there, and whether it can be trusted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from crossmod.data.cases import patient_of
from crossmod.data.folder import (
    Inventory,
    Scan,
    ending_of,
    find_scans,
    nearest_folder,
    take_stock,
)
from crossmod.data.grids import Preprocess, require_moderate
from crossmod.errors import DataError, elided
from crossmod.files.outputs import Inputs
from crossmod.files.patterns import CASE, is_folder, matches, refuse_links
from crossmod.intake import Inspector, Part, Survey, survey
from crossmod.recipe.files import merge, unset
from crossmod.recipe.load import Checked
from crossmod.recipe.model import AnyFiles, LabeledFiles, Recipe
from crossmod.stages.context import Progress, silent_progress

FEWEST = 2
"""Scans of a domain that anything can be learned from."""


def find_data(recipe: Recipe, data: Path | None) -> Path | None:
    """The data folder: as named, as the environment says, or None for the embedded cohort."""
    named = os.environ.get("CROSSMOD_DATA")
    if data is None and recipe.data.phantom is None and named:
        data = Path(named)
    return data.absolute() if data is not None else None


def inputs_of(found: list[Checked], data: Path | None) -> Inputs:
    """What a run reads: its recipes, the data folder, and where its patterns lead otherwise."""
    files = found[0].document.files
    if data is None:
        return Inputs(files)
    named = {name for checked in found for name in checked.recipe.data.lists}
    files = (*files, *(data / name for name in sorted(named)))
    listed, searched = list[Path](), [data]
    for pattern in {one for checked in found for one in checked.recipe.patterns}:
        start, _, rest = pattern.partition(CASE)
        flat = "/" not in rest and ending_of(pattern) != ""
        (listed if flat else searched).append(data / start.rpartition("/")[0])
    return Inputs(files, tuple(listed), tuple(searched))


def reading_of(recipe: Recipe) -> str:
    """What decides which files are read, and how they are judged: the same for many variants."""
    return recipe.model_dump_json(exclude={"title", "seed", "seeds", "translate", "augment"})


def check_data(recipe: Recipe, root: Path, *, allow_outside: bool = False) -> Inventory:
    """Find the scans of every split, so that a wrong folder is said before anything runs.

    Args:
        recipe: says which files they are.
        root: the data folder.
        allow_outside: follow links that lead out of it.

    Raises:
        DataError: the folder is missing, a split has no scan, a labeled scan has no label map, a
            table beside the source scans contradicts their names, or links lead out of the folder.
    """
    if not is_folder(root):
        raise DataError("is not a folder" if root.exists() else "does not exist", where=str(root))
    if not allow_outside:
        refuse_links(root, recipe.patterns, recipe.data.lists)
    data = recipe.data
    patterns = {
        split: (files.images, files.labels if isinstance(files, LabeledFiles) else None)
        for split, files in data.splits.items()
    }
    choices = {split: files.choice for split, files in data.splits.items()}
    return take_stock(root, patterns, data.centers, choices)


def chosen(
    recipe: Recipe, files: AnyFiles, labels: str | None, root: Path | None
) -> tuple[str, ...] | None:
    """The cases of a split that its lists choose; None where it has no lists.

    Raises:
        DataError: as `find_scans`, or no data folder is given.
    """
    if files.choice.is_all:
        return None
    if root is None:
        raise DataError(
            "cases and exclude choose from a data folder; the embedded cohort is used whole",
            fix="give --data DIR, or remove these keys from [data]",
        )
    scans = find_scans(root, files.images, labels, recipe.data.centers, files.choice)
    return tuple(scan.case for scan in scans)


def survey_data(
    recipe: Recipe,
    root: Path,
    inventory: Inventory,
    *,
    memory: Path | None = None,
    digests: dict[Path, str] | None = None,
    progress: Progress = silent_progress,
    labels_only: bool = False,
) -> Survey:
    """Look into every file that a recipe uses.

    Args:
        recipe: says which files, and what they are.
        root: the data folder.
        inventory: the scans in it.
        memory: the folder of what was seen before.
        digests: of files, as for `Inspector`; recipes of one run look at the same files.
        progress: wraps the iteration over files.
        labels_only: read label maps and no scans.
    """
    data, labels = recipe.data, recipe.evaluate.labels
    series = {
        "target": data.target.series,
        "validation": data.validation.series if data.validation else "",
    }
    references, problems = _references(root, labels)
    parts = [
        Part(
            split,
            scans,
            {} if split == "source" else references,
            series.get(split, ""),
            recipe.preprocess.of(split),
            split == "target" and _has_oracle(recipe, scans, references),
        )
        for split, scans in inventory.splits.items()
    ]
    grids = {scan.image: part.grid for part in parts if part.grid for scan, _ in part.pairs()}
    single = tuple(data.class_table.values[name] for name in _single(recipe))
    found = survey(
        parts,
        data.class_table,
        Inspector(recipe.intake, memory, digests, single, grids),
        progress,
        ignored=data.ignore_values,
        labels_only=labels_only,
    )
    found.problems += problems or _unmatched(recipe, root, parts)
    found.problems += _too_large(found, recipe)
    found.problems += _unfitting(inventory, data.patients)
    found.problems += _too_few(inventory, recipe)
    found.problems += _on_both_sides(inventory, data.patients)
    return found


def _references(root: Path, labels: str | None) -> tuple[dict[str, Path], list[str]]:
    """Case -> label map that is only scored against, and what keeps them from being found."""
    try:
        return (matches(root, labels) if labels else {}), []
    except DataError as error:
        return {}, [str(error)]


def _has_oracle(recipe: Recipe, scans: Iterable[Scan], references: Mapping[str, Path]) -> bool:
    """Whether references are learned from, to compare the method with."""
    return "oracle" in recipe.evaluate.compare and all(scan.case in references for scan in scans)


def _single(recipe: Recipe) -> list[str]:
    """The classes of which something keeps only the largest component."""
    pseudo = recipe.pseudo_label
    last = pseudo.last.segment if pseudo and pseudo.last else {}
    named = [
        *recipe.segment.largest_component,
        *last.get("largest_component", ()),
        *getattr(pseudo, "largest_component", ()),  # an option that a plugin may have
    ]
    return [name for name in recipe.data.classes if name in named]


def _unmatched(recipe: Recipe, root: Path, parts: Iterable[Part]) -> Iterator[str]:
    """A pattern of references that leads to none of the scans that are scored."""
    labels = recipe.evaluate.labels
    if labels is None or any(True for part in parts if part.references for _ in part.pairs()):
        return
    yield (
        f"evaluate.labels: '{labels}' matches no label map of a target or validation scan;"
        f" {nearest_folder(root, labels)}\n  correct the pattern, or set evaluate.labels = false"
        " to score nothing"
    )


def _too_large(found: Survey, recipe: Recipe) -> Iterator[str]:
    """Scans whose voxels are so large that a common grid explodes."""
    last = recipe.pseudo_label.last if recipe.pseudo_label else None
    usual = recipe.preprocess.of("target")
    changed = merge(usual.model_dump(), last.preprocess if last else {})
    other = Preprocess.model_validate(unset(changed, Preprocess))
    for part in found.parts:
        both = [usual] if other == usual else [usual, other]
        grids = [recipe.preprocess.of(part.split)] if part.split == "source" else both
        for image in [scan.image for scan in part.scans if scan.image in found.facts]:
            try:
                for options in grids:
                    most = recipe.intake.limits.max_voxels
                    require_moderate(found.facts[image].grid, options, most)
            except DataError as error:
                yield f"{image}: {error}"


def _unfitting(inventory: Inventory, pattern: str | None) -> Iterator[str]:
    """Cases whose patient cannot be told."""
    for split, scans in inventory.splits.items():
        cases = [scan.case for scan in scans if patient_of(scan.case, pattern) is None]
        if cases:
            text = f"data.patients = '{pattern}' does not match {len(cases)} cases: {elided(cases)}"
            yield f"{split}: patients: {text}"


def _too_few(inventory: Inventory, recipe: Recipe) -> Iterator[str]:
    """Domains with too few scans, or too few patients for the folds."""
    for split, scans in inventory.splits.items():
        if len(scans) < FEWEST and split != "validation":
            yield f"{split}: scans: {len(scans)}\n  allowed: at least {FEWEST}"
    patients = _patients(inventory.splits["source"], recipe.data.patients)
    yield from _unsplit(len(patients), recipe.segment.folds, "use fewer folds or more scans")


def too_small(recipe: Recipe) -> Iterator[str]:
    """What is wrong with the size of the embedded cohort; nothing where a recipe has none."""
    if embedded := recipe.data.phantom:
        fix = "use fewer folds, or more scans in data.phantom.source"
        yield from _unsplit(embedded.source, recipe.segment.folds, fix)


def _unsplit(patients: int, folds: int, fix: str) -> Iterator[str]:
    if 1 < patients < folds:
        yield f"source: patients: {patients} cannot be split into {folds} folds\n  {fix}"


def _on_both_sides(inventory: Inventory, pattern: str | None) -> Iterator[str]:
    """Patients who are learned from and scored."""
    held_out = _patients(inventory.splits.get("validation", ()), pattern)
    for split in ("source", "target"):
        shared = _patients(inventory.splits[split], pattern) & held_out
        if shared and (pattern or split == "target"):  # cases of two domains may share names
            names = ", ".join(sorted(shared))
            fix = "put each patient in one split only"
            yield f"validation: patients: {names}: also in {split}\n  {fix}"


def _patients(scans: Iterable[Scan], pattern: str | None) -> set[str]:
    """The patients of those scans of which it can be told."""
    return {name for scan in scans if (name := patient_of(scan.case, pattern))}
