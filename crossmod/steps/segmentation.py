"""Steps that outline structures: train, predict, pseudo-label, score."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any, cast

import numpy as np

from crossmod import contract
from crossmod.data import (
    Cohort,
    CohortWriter,
    Prediction,
    State,
    read_affine,
    read_grid,
    read_labels,
    write_nifti,
)
from crossmod.lesions import keep_largest
from crossmod.metrics import Score, score, write_scores
from crossmod.preprocess import Grid, to_native
from crossmod.stages import Context, History, PseudoLabeler, Segmenter
from crossmod.steps.appearance import PluginStep
from crossmod.steps.base import Step, Where
from crossmod.steps.files import (
    label_map,
    load_cohorts,
    load_prediction,
    load_state,
    save_probabilities,
    save_state,
)
from crossmod.steps.scans import Prepare


@dataclass(frozen=True, kw_only=True)
class Train(PluginStep):
    """Train the segmenter on one fold."""

    labeled: tuple[Step, ...]
    fold: int
    folds: int

    @property
    def inputs(self) -> tuple[Step, ...]:
        return self.labeled

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fold": self.fold, "folds": self.folds}

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = load_cohorts(self.labeled, folder_of)
        train, validation = cohort.folds(self.folds, self.seed)[self.fold]
        stage = cast("Segmenter[Any]", self.use.stage())
        seeded = replace(ctx, seed=self.seed + self.fold)
        save_state(ctx.folder, stage.fit(train, validation, seeded))


@dataclass(frozen=True, kw_only=True)
class Predict(PluginStep):
    """Average the folds' probabilities and bring label maps back to the grid of each scan."""

    models: tuple[Train, ...]
    images: Prepare
    largest_component: tuple[str, ...]
    keep_probabilities: bool

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.models, self.images)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            **super().settings,
            "largest_component": list(self.largest_component),
            "keep_probabilities": self.keep_probabilities,
        }

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.images))
        scans = {scan.case: scan for scan in self.images.scans(folder_of)}
        states = [load_state(folder_of(model)) for model in self.models]
        for prediction in self._ensemble(cohort, states, ctx):
            image = scans[prediction.case].image
            native = Grid(*read_grid(image))
            labels = to_native(prediction.probabilities, prediction.image.affine, native)
            for name in self.largest_component:
                labels = keep_largest(labels, cohort.classes[name])
            write_nifti(label_map(ctx.folder, prediction.case), labels, native.affine)
            if self.keep_probabilities:
                save_probabilities(ctx.folder, prediction)

    def _ensemble(self, cohort: Cohort, states: list[State], ctx: Context) -> Iterator[Prediction]:
        stage = cast("Segmenter[Any]", self.use.stage())
        streams = []
        for state in states:
            given, checked = tee(cohort.volumes())
            results = stage.predict(given, state, ctx)
            streams.append(contract.predictions(checked, results, cohort.classes, self.who))
        for members in ctx.progress(zip(*streams, strict=True), total=len(cohort)):
            mean = np.mean([member.probabilities for member in members], axis=0)
            yield replace(members[0], probabilities=mean.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class PseudoLabel(PluginStep):
    """Choose and clean predictions on target images to learn from."""

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
        for pair in contract.selections(images, results, cohort.classes, self.who):
            writer.add_pair(pair)
        done = stage.done(History((*history.rounds, writer.close())))
        (ctx.folder / "done.json").write_text(json.dumps(done), encoding="utf-8")

    @staticmethod
    def is_done(folder: Path) -> bool:
        """Whether the plugin decided that training on these labels is not worth it."""
        return bool(json.loads((folder / "done.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class ScoreStage(Step):
    """Score the predictions of one stage on one split against label maps nobody learned from."""

    predictions: Predict
    data: Step
    labels: str
    stage: str
    split: str

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.predictions, self.data)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"labels": self.labels, "stage": self.stage, "split": self.split}

    def make(self, folder_of: Where, ctx: Context) -> None:
        images = self.predictions.images
        root, rows = folder_of(self.data), []
        for scan in ctx.progress(images.scans(folder_of)):
            reference = root / self.labels.format(case=scan.case)
            prediction = label_map(folder_of(self.predictions), scan.case)
            results = score(
                read_labels(prediction),
                read_labels(reference),
                read_affine(reference),
                images.classes,
            )
            rows += [
                Score(self.split, self.stage, scan.case, scan.center, name, dice, assd)
                for name, (dice, assd) in results.items()
            ]
        write_scores(ctx.folder / "metrics.csv", rows)
