"""Steps that outline structures: train, predict, pseudo-label, score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.data.form import write_outline
from crossmod.data.grids import Grid, resample_labels
from crossmod.data.nifti import read_labels
from crossmod.data.state import load_state, save_state
from crossmod.data.volumes import Pair
from crossmod.errors import DataError, elided
from crossmod.files.patterns import references_of
from crossmod.intake import FileFault, Intake, LabelMap, load_labels, on_grid
from crossmod.model.ensemble import Ensemble
from crossmod.model.views import VIEWS
from crossmod.run.steps.base import PluginStep, Step, load_cohorts
from crossmod.run.steps.extents import Extent, Extents
from crossmod.run.steps.kept import load_prediction, save_folds, save_probabilities
from crossmod.run.steps.scans import Prepare, ScanSource, load_grids
from crossmod.scores.metrics import Score, read_scores, score, write_scores
from crossmod.scores.survival import TABLE, Row, target_rows, write_survival
from crossmod.scores.table import DICE, code_of_further
from crossmod.stages import contract
from crossmod.stages.base import History, PseudoLabeler, Segmenter
from crossmod.stages.context import Context
from crossmod.store.store import Store

MAX_NAMED = 10
"""Scans that a line of the log names."""

LABEL_BYTES = 0.01
"""Of a voxel of a compressed label map, which is nearly empty."""


@dataclass(frozen=True, kw_only=True)
class Train(PluginStep):
    """Train the segmenter on one fold."""

    labeled: tuple[Step, ...]
    fold: int
    folds: int
    start: Train | None = None

    code_version = 2
    is_learner = True

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fold": self.fold, "folds": self.folds}

    def make(self, store: Store, ctx: Context) -> None:
        train, validation = self._split(store)
        stage = cast("Segmenter[Any]", self.use.stage())
        start = load_state(self.start.folder(store)) if self.start else None
        if not stage.weighs_cases:
            _tell_unheeded(train, self.use.who, ctx)
        seeded = replace(ctx, seed=self.seed + self.fold, start=start)
        save_state(ctx.folder, contract.learned(stage.fit(train, validation, seeded), self.use.who))

    def _split(self, store: Store) -> tuple[Cohort, Cohort]:
        cohort = load_cohorts(self.labeled, store)
        self._require_cases(cohort)
        origins = _origins(self.labeled, store)
        return cohort.folds(self.folds, self.seed, origins)[self.fold]

    def _require_cases(self, cohort: Cohort) -> None:
        """Say which options leave too little to learn from where all of it is pseudo-labels."""
        patients = len({case.patient for case in cohort.cases})
        rounds = [one for one in self.labeled if isinstance(one, PseudoLabel | Regrid)]
        if patients < self.folds and len(rounds) == len(self.labeled):
            raise DataError(
                f"pseudo-labels of {patients} patients were kept, too few for {self.folds} folds",
                where=self.name,
                fix='loosen the limits in [pseudo_label], or leave out last.train_on = "target"',
            )

    def held_out(self, store: Store) -> set[str]:
        """The patients that neither this training nor those it continues have learned from."""
        patients = {case.patient for case in self._split(store)[1].cases}
        return patients & self.start.held_out(store) if self.start else patients

    def alone(self) -> Self:
        return replace(self, start=None)


def _tell_unheeded(train: Cohort, who: str, ctx: Context) -> None:
    """Warn of weights and masks that a segmenter passes over."""
    weighted = sum(case.weight != 1 for case in train.cases)
    masked = sum(case.ignore is not None for case in train.cases)
    if weighted or masked:
        ctx.log(
            f"warning: {who} learns from all voxels of all cases alike: the weights of {weighted}"
            f" and the masks of {masked} cases have no effect"
        )


def _origins(labeled: Sequence[Step], store: Store) -> dict[str, int]:
    """Patient -> the first of the steps that shows the patient: copies stay with originals."""
    return {
        case.patient: number
        for number, step in reversed(list(enumerate(labeled)))
        for case in Cohort.load(step.folder(store)).cases
    }


@dataclass(frozen=True, kw_only=True)
class Predict(PluginStep):
    """Average the folds and bring label maps back to the grid of each scan."""

    models: tuple[Train, ...]
    images: Prepare
    ensemble: Ensemble
    keep_probabilities: bool
    keep_folds: bool = False

    code_version = 2

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            **({"keep_folds": True} if self.keep_folds else {}),
            **super().settings,
            "average": self.ensemble.average,
            "largest_component": list(self.ensemble.largest_component),
            "keep_probabilities": self.keep_probabilities,
        }

    def make(self, store: Store, ctx: Context) -> None:
        cohort = Cohort.load(self.images.folder(store))
        grids = load_grids(self.images.folder(store))
        states = [load_state(model.folder(store)) for model in self.models]
        removed: dict[str, Mapping[str, float]] = {}
        given = ctx.progress(cohort.volumes(), total=len(cohort))
        alone = self.keep_folds and len(states) == 1
        members = self.ensemble.views if alone else self.ensemble.members
        for found in members(given, states, ctx):
            prediction = self.ensemble.joined(found[: len(states)])
            native = grids[prediction.case]
            outline = self.ensemble.outline(prediction, native.grid)
            path = label_map(ctx.folder, prediction.case)
            write_outline(path, outline.labels, native.grid.affine, native.form)
            removed[prediction.case] = outline.removed_mm3
            if self.keep_probabilities:
                save_probabilities(ctx.folder, prediction)
            if self.keep_folds:
                save_folds(ctx.folder, found)
        for name in self.ensemble.largest_component:
            if cut := {case: one[name] for case, one in removed.items() if one[name]}:
                ctx.log(f"{_told(name, cut)}; {len(cut)} of {len(removed)} scans")

    @property
    def predicted(self) -> Step:
        return self.images

    def disk_bytes(self, extents: Extents) -> int | None:
        images, maps = extents.of(self.images), 1 + len(self.ensemble.classes.labels)
        if images is None:
            return None
        kept = images.lattice.voxels * maps * 2 if self.keep_probabilities else 0
        kept += int(images.lattice.voxels * LABEL_BYTES) * len(VIEWS) if self.keep_folds else 0
        return images.count * (kept + int(images.native.voxels * LABEL_BYTES))


def _told(name: str, cut: Mapping[str, float]) -> str:
    """How much cleaning removed of a class, mm3 by case, most first."""
    worst = sorted(cut.items(), key=lambda item: -item[1])
    each = elided([f"{case} {mm3:.6g}" for case, mm3 in worst], MAX_NAMED)
    return f"largest_component removed {sum(cut.values()):.7g} mm3 of '{name}' ({each})"


def label_map(folder: Path, case: str) -> Path:
    """Where a Predict step keeps the label map of a case, on the grid of the scan."""
    return folder / "labels" / f"{case}.nii.gz"


@dataclass(frozen=True, kw_only=True)
class PseudoLabel(PluginStep):
    """Choose and clean predictions on target images to learn from."""

    code_version = 3
    may_end = True
    ending = "labels no longer change"

    predictions: Predict
    earlier: tuple[PseudoLabel, ...]
    source: Prepare | None = None

    @property
    def inputs(self) -> tuple[Step, ...]:
        known = (self.source,) if self.source else ()
        return (self.predictions, self.predictions.images, *self.earlier, *known)

    def make(self, store: Store, ctx: Context) -> None:
        cohort = Cohort.load(self.predictions.images.folder(store))
        rounds = tuple(Cohort.load(step.folder(store)) for step in self.earlier)
        source = Cohort.load(self.source.folder(store)) if self.source else None
        history = History(rounds, source)
        stage = cast("PseudoLabeler[Any]", self.use.stage())
        folder = self.predictions.folder(store)
        given = (load_prediction(folder, volume) for volume in cohort.volumes())
        results = stage.select(ctx.progress(given, total=len(cohort)), history, ctx)
        images = {case.case: case for case in cohort.cases}
        writer = CohortWriter(ctx.folder, cohort.classes)
        looks: list[Row] = []
        for pair in contract.selections(images, results, cohort.classes, self.use.who):
            writer.add_pair(pair)
            looks += target_rows(pair, cohort.classes)
        write_survival(ctx.folder / TABLE, looks)
        done = stage.done(History((*rounds, writer.close()), source))
        _note_end(ctx.folder, contract.decision(done, self.use.who))

    def extent(self, extents: Extents) -> Extent | None:
        images = extents.of(self.predictions.images)
        return images and replace(images, labeled=True)

    def ends_run(self, store: Store) -> bool:
        return _is_end(self.folder(store))


@dataclass(frozen=True, kw_only=True)
class Regrid(Step):
    """Bring pseudo-labels onto the grid of another preparation of the same scans."""

    labeled: PseudoLabel
    images: Prepare

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    def make(self, store: Store, ctx: Context) -> None:
        labeled = Cohort.load(self.labeled.folder(store))
        images = {case.case: case for case in Cohort.load(self.images.folder(store)).cases}
        writer = CohortWriter(ctx.folder, labeled.classes)
        for pair in ctx.progress(labeled.pairs(), total=len(labeled)):
            image = images[pair.case].volume()
            grid = Grid(image.grid, image.affine)
            labels = resample_labels(pair.labels, pair.image.affine, grid)
            ignore = None
            if pair.ignore is not None:
                mask = resample_labels(pair.ignore.astype(np.uint8), pair.image.affine, grid)
                ignore = mask.astype(bool)
            for name, label in labeled.classes.items():
                if label in pair.labels and label not in labels:
                    ctx.log(f"warning: case {pair.case}: '{name}' vanishes on this grid")
            writer.add_pair(Pair(image, labels, pair.patient, pair.weight, ignore))
        writer.close()

    def extent(self, extents: Extents) -> Extent | None:
        images, labeled = extents.of(self.images), extents.of(self.labeled)
        return images and labeled and replace(images, cases=labeled.cases, labeled=True)


@dataclass(frozen=True, kw_only=True)
class ScoreStage(Step):
    """Score the predictions of one stage on one split against label maps nobody learned from."""

    predictions: Predict
    data: ScanSource
    labels: str
    stage: str
    split: str

    code_version = 2

    @property
    def settings(self) -> Mapping[str, Any]:
        settings = {"labels": self.labels, "stage": self.stage, "split": self.split}
        further = code_of_further()
        return {**settings, "metrics": further} if further else settings

    def make(self, store: Store, ctx: Context) -> None:
        images = self.predictions.images
        scans, rows = images.scans(store), []
        cases = [scan.case for scan in scans]
        references = references_of(self.data.folder(store), self.labels, cases)
        for scan in ctx.progress(scans):
            reference = references[scan.case]
            if not self.data.has_reference(reference):
                continue  # only some scans of this split have one
            prediction = label_map(self.predictions.folder(store), scan.case)
            expected = load_labels(reference, images.intake)
            self.data.require_unchanged(reference, expected.digest)
            found = read_labels(prediction)
            if expected.labels.shape != found.shape:
                grid = load_grids(images.folder(store))[scan.case].grid
                expected = _extended(reference, expected, grid, images.intake)
            results = score(
                images.classes.to_labels(found),
                images.classes.to_labels(expected.labels),
                expected.affine,
                images.classes.labels,
            )
            rows += [
                Score(self.split, self.stage, scan.case, scan.center, name, measures)
                for name, measures in results.items()
            ]
        write_scores(ctx.folder / "metrics.csv", rows)


def _extended(path: Path, found: LabelMap, grid: Grid, intake: Intake) -> LabelMap:
    """A reference that covers a part of its scan, on the grid of the scan."""
    try:
        labels, _ = on_grid(found, grid, intake.resample_labels)
    except FileFault as fault:
        raise fault.of(path) from fault
    return replace(found, labels=labels, affine=grid.affine)


@dataclass(frozen=True, kw_only=True)
class Gate(Step):
    """End the run where the translation has failed."""

    may_end = True
    ending = "gate not passed"

    scores: ScoreStage
    structure: str
    limit: float

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"structure": self.structure, "limit": self.limit}

    def make(self, store: Store, ctx: Context) -> None:
        rows = read_scores(self.scores.folder(store) / "metrics.csv")
        reached = [row.of(DICE) for row in rows if row.structure == self.structure]
        _note_end(ctx.folder, bool(np.nanmean(reached) < self.limit))

    def ends_run(self, store: Store) -> bool:
        return _is_end(self.folder(store))


END = "done.json"


def _note_end(folder: Path, done: bool) -> None:
    (folder / END).write_text(json.dumps(done), encoding="utf-8")


def _is_end(folder: Path) -> bool:
    return bool(json.loads((folder / END).read_text(encoding="utf-8")))
