"""One case of a finished run: what every step made of it, gathered for a page."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.grids import Grid, resample_labels
from crossmod.data.volumes import LabelArray
from crossmod.errors import DataError, listed, reading
from crossmod.files.digests import digest_on_disk
from crossmod.files.outputs import Inputs, Outputs
from crossmod.files.patterns import is_folder, references_of
from crossmod.intake import load_labels
from crossmod.model.facts import RunFacts
from crossmod.model.package import finished_run, read_lock
from crossmod.run.folder import LOCKED, step_folders, step_name
from crossmod.run.steps.segmentation import label_map
from crossmod.scores.metrics import read_scores
from crossmod.scores.table import DICE

if TYPE_CHECKING:
    from crossmod.report.view import Shown, ViewContent
    from crossmod.report.view_files import ViewFiles


PREPARED, REFERENCES, EMBEDDED = "prepare-", "prepare-oracle", "phantom"
"""How the names of steps begin that put scans, and references of target scans, on the grid; and the
step whose result is a data folder."""

CHANGED = ("translate-", "augment-")
"""How the names of steps begin that make other images of a case."""

METRICS = "metrics.csv"

DATA = Path("DIR")
"""Stands for the data folder in command lines where it is not known."""


def view(run: Path, case: str, out: Path, data: Path | None = None) -> ViewContent:
    """Write a page that shows a case of a finished run.

    Args:
        run: the run folder.
        case: the id of a case, of any split.
        out: the page to write.
        data: the data folder of the run, for the references of target scans; by default the
            embedded cohort, or $CROSSMOD_DATA.

    Returns:
        What the page shows, with remarks on what it leaves out.

    Raises:
        DataError: the folder is not a finished run, or has no such case; ``data`` is not a folder;
            or a file named ``out`` was not written by this command.
        MachineError: the page cannot be written.
    """
    from crossmod.report.view import write_view

    outputs = Outputs(out.parent, "crossmod view", Inputs(searched=(run,)))
    outputs.require([out.name], fix="name another file with --out")
    content = gather(run, case, data)
    with outputs.file(out.name) as file:
        write_view(file, content)
    return content


def gather(run: Path, case: str, data: Path | None = None) -> ViewContent:
    """What a page shows of a case; arguments and errors as for `view`."""
    from crossmod.report.slices import REFERENCE_COLOR
    from crossmod.report.view import Shown, ViewContent, colored

    found = CaseOfRun.find(run, case, data)
    maps = dict(found.maps())
    colors = colored(maps)
    last = next(reversed(maps), "")
    drawn = [Shown(found.named(n, m), m, colors[n], n == last) for n, m in maps.items()]
    reference = found.reference()
    if reference is not None:
        name = noted("reference", reference)
        drawn.insert(0, Shown(name, reference, REFERENCE_COLOR, chosen=True))
    voxels = " x ".join(f"{size:g}" for size in found.grid.spacing_mm)
    return ViewContent(
        title=case,
        subtitle=f"{found.recipe['title']}: {found.split} scan, center {found.prepared.center},"
        f" on the grid of the run ({voxels} mm)",
        affine=found.grid.affine,
        classes=found.classes,
        images=list(found.images()),
        maps=drawn,
        remarks=found.remarks,
        files=found.files(),
    )


@dataclass
class CaseOfRun:
    """A case with all that a run folder holds of it.

    Attributes:
        run: the run folder.
        facts: what the run wrote about itself.
        steps: name of a step -> its folder, in their order.
        cohorts: those steps whose results are cohorts.
        split: source, target or validation.
        prepared: the scan on the grid of the run.
        classes: class name -> label in cohorts.
        root: the data folder, where it is known.
        remarks: what is left out, and why.
    """

    run: Path
    facts: RunFacts
    steps: Mapping[str, Path]
    cohorts: Mapping[str, Cohort]
    split: str
    prepared: Case
    classes: Mapping[str, int]
    root: Path | None
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, run: Path, case: str, data: Path | None) -> CaseOfRun:
        """The case of this name; arguments and errors as for `view`."""
        facts = finished_run(run)
        steps = {step_name(path): path for path in step_folders(run)}
        root, remarks = _root(data, steps)
        with reading(run):
            cohorts = {
                name: Cohort.load(folder)
                for name, folder in steps.items()
                if (folder / Cohort.MANIFEST).is_file()
            }
        splits = {n: c for n, c in cohorts.items() if n.startswith(PREPARED) and n != REFERENCES}
        for name, cohort in splits.items():
            for one in cohort.cases:
                if one.case == case:
                    split = name.removeprefix(PREPARED)
                    classes = cohort.classes
                    return cls(run, facts, steps, cohorts, split, one, classes, root, remarks)
        known = [one.case for cohort in splits.values() for one in cohort.cases]
        raise DataError(f"has no case {case}", where=str(run), allowed=listed(known, most=20))

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The tables of the recipe as it ran."""
        return tomllib.loads(read_lock(self.run / LOCKED)[0])

    @cached_property
    def grid(self) -> Grid:
        """The grid of the page."""
        volume = self.prepared.volume()
        return Grid(volume.grid, volume.affine)

    def images(self) -> Iterator[Shown]:
        """The scan, its translations and its augmented copies."""
        from crossmod.report.view import Shown

        yield Shown("scan", self.prepared.volume().data[0], chosen=True)
        for step, one in self.made():
            data = one.volume().data[0]
            if data.shape == self.grid.shape:
                suffix = one.case.removeprefix(self.prepared.case)
                yield Shown(f"{step} {suffix}".strip(), data)
            else:
                self.remarks.append(f"{step} is on another grid, and not shown.")

    def made(self) -> Iterator[tuple[str, Case]]:
        """Step -> translation or augmented copy."""
        own = self.prepared.case
        for step, cohort in self.cohorts.items():
            if step.startswith(CHANGED):
                for one in cohort.cases:
                    if one.case == own or one.case.startswith(f"{own}+"):
                        yield step, one

    def maps(self) -> Iterator[tuple[str, LabelArray]]:
        """Step -> label map that a machine drew, on the grid of the page."""
        for step, folder in self.steps.items():
            if step in self.cohorts:
                if not step.startswith((PREPARED, *CHANGED)):
                    yield from ((step, drawn) for drawn in self._pseudo_label(self.cohorts[step]))
            elif (file := label_map(folder, self.prepared.case)).is_file():
                yield step, self._read(file)

    def _pseudo_label(self, cohort: Cohort) -> Iterator[LabelArray]:
        for one in cohort.cases:
            if one.case == self.prepared.case and one.labels is not None:
                pair = one.pair()
                yield self._on_grid(pair.labels, Grid(pair.labels.shape, pair.image.affine))

    def reference(self) -> LabelArray | None:
        """What people drew, on the grid of the page; None where that is not known."""
        oracle = self.cohorts[REFERENCES].cases if REFERENCES in self.cohorts else ()
        for one in (self.prepared, *oracle):
            if one.case == self.prepared.case and one.labels is not None:
                return one.pair().labels
        pattern = self.recipe.get("evaluate", {}).get("labels")
        if not pattern:
            return None
        if self.root is None:
            self.remarks.append("The reference is not shown: name the data folder with --data.")
            return None
        file = references_of(self.root, pattern, [self.prepared.case])[self.prepared.case]
        known = self.facts.references.get(self.split, {}).get(self.prepared.case)
        if file.is_file() and known in (None, digest_on_disk(file)):
            return self._read(file)
        fault = "is not the file that the run scored" if file.is_file() else "is missing"
        self.remarks.append(f"The reference is not shown: {file} {fault}.")
        return None

    def _read(self, file: Path) -> LabelArray:
        """A label map with the values of files."""
        stage = next(iter(self.facts.stages.values()))
        read = load_labels(file, stage.intake)
        labels = np.zeros_like(read.labels)
        for name, values in stage.classes.items():
            labels[np.isin(read.labels, values)] = self.classes[name]
        return self._on_grid(labels, Grid(labels.shape, read.affine))

    def _on_grid(self, labels: LabelArray, given: Grid) -> LabelArray:
        if given.shape == self.grid.shape and np.allclose(given.affine, self.grid.affine):
            return labels
        return resample_labels(labels, given.affine, self.grid)

    def named(self, step: str, labels: LabelArray) -> str:
        """How the page calls a step that drew a label map, with the Dice of its main class."""
        name = step.removeprefix("predict-").removesuffix(f"-{self.split}")
        dice = self._dice.get(name)
        return noted(name, labels, *([] if dice is None else [f"Dice {dice:.2f}"]))

    @cached_property
    def _dice(self) -> dict[str, float]:
        """Stage -> Dice of the structure that the report follows, in this case."""
        if not (self.run / METRICS).is_file():
            return {}
        structure = self.recipe.get("evaluate", {}).get("structure")
        place = (self.split, self.prepared.case, structure)
        return {
            score.stage: score.of(DICE)
            for score in read_scores(self.run / METRICS)
            if (score.split, score.case, score.structure) == place
        }

    def files(self) -> ViewFiles:
        """The images and label maps for other viewers.

        Predictions lie on the grid of the scan as it came, translations on that of the run.
        """
        from crossmod.report.view_files import ViewFiles

        case = self.prepared.case
        made = [one.image.absolute() for _, one in self.made()]
        if self.split == "source":
            labels = [self.prepared.labels.absolute()] if self.prepared.labels else []
            return ViewFiles([self.prepared.image.absolute(), *made], labels)
        drawn = [label_map(folder, case).absolute() for folder in self.steps.values()]
        return ViewFiles([self._scan()], [path for path in drawn if path.is_file()])

    def _scan(self) -> Path:
        """The scan as it came; below `DATA` where nobody knows where it lies."""
        case, pattern = self.prepared.case, self.recipe["data"][self.split]["images"]
        if self.root is not None:
            scan = references_of(self.root, pattern, [case])[case].absolute()
            if scan.exists():
                return scan
            self.remarks.append(
                f"The scan of the run is not in the data folder: {scan} is missing."
            )
        self.remarks.append(f"In the command lines, {DATA} stands for the data folder of the run.")
        return references_of(DATA, pattern, [case])[case]


def noted(name: str, labels: LabelArray, *notes: str) -> str:
    """A name with notes, and with "empty" where a label map outlines nothing."""
    notes = notes if labels.any() else ("empty", *notes)
    return f"{name} ({', '.join(notes)})" if notes else name


def _root(data: Path | None, steps: Mapping[str, Path]) -> tuple[Path | None, list[str]]:
    """The data folder, where it is known, and what is wrong with that of the environment."""
    if data is not None:
        if not is_folder(data):
            what = "is not a folder" if data.exists() else "does not exist"
            raise DataError(what, where=str(data), fix="name the data folder of the run")
        return data, []
    named = os.environ.get("CROSSMOD_DATA")
    if EMBEDDED in steps or not named:
        return steps.get(EMBEDDED), []
    if is_folder(Path(named)):
        return Path(named), []
    return None, [f"$CROSSMOD_DATA names {named}, which is not a folder."]
