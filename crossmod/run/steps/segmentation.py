"""Steps that outline structures: train, predict, pseudo-label, score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from crossmod.data.grids import Grid, resample_labels
from crossmod.data.state import load_state, save_state
from crossmod.data.volumes import (
    Cohort,
    CohortWriter,
    read_labels,
    write_nifti,
)
from crossmod.files.patterns import reference_of
from crossmod.intake import load_labels
from crossmod.model.ensemble import Ensemble
from crossmod.run.steps.appearance import PluginStep
from crossmod.run.steps.base import Step, Where
from crossmod.run.steps.files import (
    label_map,
    load_cohorts,
    load_grids,
    load_prediction,
    save_probabilities,
)
from crossmod.run.steps.scans import DataFolder, Prepare, require_unchanged
from crossmod.scores.metrics import Score, read_scores, score, write_scores
from crossmod.scores.table import DICE, code_of_further
from crossmod.stages import contract
from crossmod.stages.base import Context, History, PseudoLabeler, Segmenter


@dataclass(frozen=True, kw_only=True)
class Train(PluginStep):
    """Train the segmenter on one fold."""

    labeled: tuple[Step, ...]
    fold: int
    folds: int
    start: Train | None = None

    code_version = 2

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.labeled, self.start) if self.start else self.labeled

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fold": self.fold, "folds": self.folds}

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = load_cohorts(self.labeled, folder_of)
        origins = _origins(self.labeled, folder_of)
        train, validation = cohort.folds(self.folds, self.seed, origins)[self.fold]
        stage = cast("Segmenter[Any]", self.use.stage())
        start = load_state(folder_of(self.start)) if self.start else None
        seeded = replace(ctx, seed=self.seed + self.fold, start=start)
        save_state(ctx.folder, contract.learned(stage.fit(train, validation, seeded), self.use.who))


def _origins(labeled: Sequence[Step], folder_of: Where) -> dict[str, int]:
    """Patient -> the first of the steps that shows the patient: copies stay with originals."""
    return {
        case.patient: number
        for number, step in reversed(list(enumerate(labeled)))
        for case in Cohort.load(folder_of(step)).cases
    }


@dataclass(frozen=True, kw_only=True)
class Predict(PluginStep):
    """Average the folds and bring label maps back to the grid of each scan."""

    models: tuple[Train, ...]
    images: Prepare
    ensemble: Ensemble
    keep_probabilities: bool

    code_version = 2

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.models, self.images)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            **super().settings,
            "average": self.ensemble.average,
            "largest_component": list(self.ensemble.largest_component),
            "keep_probabilities": self.keep_probabilities,
        }

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.images))
        grids = load_grids(folder_of(self.images))
        states = [load_state(folder_of(model)) for model in self.models]
        given = ctx.progress(cohort.volumes(), total=len(cohort))
        for folds in self.ensemble.members(given, states, ctx):
            prediction = self.ensemble.joined(folds)
            native = grids[prediction.case]
            labels = self.ensemble.outline(prediction, native)
            write_nifti(label_map(ctx.folder, prediction.case), labels, native.affine)
            if self.keep_probabilities:
                save_probabilities(ctx.folder, prediction)


@dataclass(frozen=True, kw_only=True)
class PseudoLabel(PluginStep):
    """Choose and clean predictions on target images to learn from."""

    code_version = 2
    may_end = True

    predictions: Predict
    earlier: tuple[PseudoLabel, ...]

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.predictions, self.predictions.images, *self.earlier)

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.predictions.images))
        history = History(tuple(Cohort.load(folder_of(step)) for step in self.earlier))
        stage = cast("PseudoLabeler[Any]", self.use.stage())
        folder = folder_of(self.predictions)
        given = (load_prediction(folder, volume) for volume in cohort.volumes())
        results = stage.select(ctx.progress(given, total=len(cohort)), history, ctx)
        images = {case.case: case for case in cohort.cases}
        writer = CohortWriter(ctx.folder, cohort.classes)
        for pair in contract.selections(images, results, cohort.classes, self.use.who):
            writer.add_pair(pair)
        done = stage.done(History((*history.rounds, writer.close())))
        _note_end(ctx.folder, contract.decision(done, self.use.who))

    def ends_run(self, folder: Path) -> bool:
        return _is_end(folder)


@dataclass(frozen=True, kw_only=True)
class Regrid(Step):
    """Bring pseudo-labels onto the grid of another preparation of the same scans."""

    labeled: PseudoLabel
    images: Prepare

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.labeled, self.images)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    def make(self, folder_of: Where, ctx: Context) -> None:
        labeled = Cohort.load(folder_of(self.labeled))
        images = {case.case: case for case in Cohort.load(folder_of(self.images)).cases}
        writer = CohortWriter(ctx.folder, labeled.classes)
        for pair in ctx.progress(labeled.pairs(), total=len(labeled)):
            image = images[pair.case].volume()
            labels = resample_labels(pair.labels, pair.image.affine, Grid(image.grid, image.affine))
            writer.add(image, patient=pair.patient, labels=labels)
        writer.close()


@dataclass(frozen=True, kw_only=True)
class ScoreStage(Step):
    """Score the predictions of one stage on one split against label maps nobody learned from."""

    predictions: Predict
    data: Step
    labels: str
    stage: str
    split: str

    code_version = 2

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.predictions, self.data)

    @property
    def settings(self) -> Mapping[str, Any]:
        settings = {"labels": self.labels, "stage": self.stage, "split": self.split}
        further = code_of_further()
        return {**settings, "metrics": further} if further else settings

    def make(self, folder_of: Where, ctx: Context) -> None:
        images = self.predictions.images
        root, rows = folder_of(self.data), []
        for scan in ctx.progress(images.scans(folder_of)):
            reference = reference_of(root, self.labels, scan.case)
            if not self._is_scored(reference):
                continue  # only some scans of this split have one
            prediction = label_map(folder_of(self.predictions), scan.case)
            expected = load_labels(reference, images.intake)
            require_unchanged(self.data, reference, expected.digest)
            results = score(
                images.classes.to_labels(read_labels(prediction)),
                images.classes.to_labels(expected.labels),
                expected.affine,
                images.classes.labels,
            )
            rows += [
                Score(self.split, self.stage, scan.case, scan.center, name, measures)
                for name, measures in results.items()
            ]
        write_scores(ctx.folder / "metrics.csv", rows)

    def _is_scored(self, reference: Path) -> bool:
        """Whether there is a label map; in a data folder, whether there was one at the intake."""
        if not isinstance(self.data, DataFolder):
            return reference.is_file()
        known = self.data.digest_at_intake(reference)
        if known and not reference.is_file():
            require_unchanged(self.data, reference, "")
        return bool(known)


@dataclass(frozen=True, kw_only=True)
class Gate(Step):
    """End the run where the translation has failed."""

    may_end = True

    scores: ScoreStage
    structure: str
    limit: float

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.scores,)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"structure": self.structure, "limit": self.limit}

    def make(self, folder_of: Where, ctx: Context) -> None:
        rows = read_scores(folder_of(self.scores) / "metrics.csv")
        reached = [row.of(DICE) for row in rows if row.structure == self.structure]
        _note_end(ctx.folder, bool(np.nanmean(reached) < self.limit))

    def ends_run(self, folder: Path) -> bool:
        return _is_end(folder)


END = "done.json"


def _note_end(folder: Path, done: bool) -> None:
    (folder / END).write_text(json.dumps(done), encoding="utf-8")


def _is_end(folder: Path) -> bool:
    return bool(json.loads((folder / END).read_text(encoding="utf-8")))
