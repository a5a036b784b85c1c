"""The steps of a run. Each says what its result depends on, and makes it in a folder.

A step is plain data: its key is a digest of its settings, its code and the keys of its inputs.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from itertools import tee
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from crossmod import contract
from crossmod.data import (
    Cohort,
    CohortWriter,
    FloatArray,
    Prediction,
    State,
    Volume,
    read_affine,
    read_grid,
    read_image,
    read_labels,
    write_nifti,
)
from crossmod.dataset import Scan, find_scans
from crossmod.lesions import FitOn
from crossmod.metrics import Score, score, write_scores
from crossmod.preprocess import Grid, Preprocess, to_common, to_native
from crossmod.recipe import EmbeddedCohort, StageUse
from crossmod.stages import (
    Augmenter,
    Context,
    History,
    PseudoLabeler,
    Segmenter,
    Translator,
)

Where = Callable[["Step"], Path]
"""Gives the folder of a finished step."""

LIBRARIES = ("numpy", "scipy", "SimpleITK", "torch", "monai", "torchio")
"""Libraries whose version changes numbers."""


@cache
def library_versions() -> dict[str, str]:
    """Name -> version of the libraries that change numbers."""
    return {name: version(name) for name in LIBRARIES}


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One unit of work.

    Attributes:
        name: name of its folder in a run.
        seed: what its random numbers derive from.
        round: the round of self-training it belongs to; 0 before the first.
    """

    name: str
    seed: int = 0
    round: int = 0

    code_version: ClassVar[int] = 1  # raise it when a change of `make` changes results

    @property
    @abstractmethod
    def inputs(self) -> tuple[Step, ...]:
        """The steps whose results it reads."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything else its result depends on, as JSON."""

    @abstractmethod
    def make(self, folder_of: Where, ctx: Context) -> None:
        """Write the result into ``ctx.folder``."""

    @cached_property
    def key(self) -> str:
        """The content key."""
        content = {
            "step": type(self).__name__,
            "code": self.code_version,
            "seed": self.seed,
            "settings": self.settings,
            "inputs": [step.key for step in self.inputs],
            "libraries": library_versions(),
        }
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True, kw_only=True)
class MakePhantom(Step):
    """Make the embedded cohort in the CrossMoDA 2022 folder layout."""

    size: EmbeddedCohort
    code: str

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"size": self.size.model_dump(), "code": self.code}

    def make(self, folder_of: Where, ctx: Context) -> None:
        from crossmod.phantom import write_cohort

        size = self.size
        write_cohort(
            ctx.folder,
            source=size.source,
            target=size.target,
            validation=size.validation,
            seed=size.seed,
            progress=lambda items, total: ctx.progress(items, total=total),
        )


@dataclass(frozen=True, kw_only=True)
class DataFolder(Step):
    """Scans that lie in a folder of the user; nothing is made, their digests are the key."""

    root: Path
    digests: Mapping[str, str]

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"files": self.digests}

    def make(self, folder_of: Where, ctx: Context) -> None:
        raise NotImplementedError("a data folder is read where it lies")


@dataclass(frozen=True, kw_only=True)
class Prepare(Step):
    """Bring the scans of one split onto the common grid."""

    data: Step
    images: str
    labels: str | None
    centers: Mapping[str, str]
    classes: Mapping[str, int]
    options: Preprocess

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.data,)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "images": self.images,
            "labels": self.labels,
            "centers": dict(self.centers),
            "classes": dict(self.classes),
            "options": self.options.model_dump(),
        }

    def scans(self, folder_of: Where) -> list[Scan]:
        """The scans of this split."""
        return find_scans(folder_of(self.data), self.images, self.labels, self.centers)

    def make(self, folder_of: Where, ctx: Context) -> None:
        writer = CohortWriter(ctx.folder, self.classes)
        for scan in ctx.progress(self.scans(folder_of)):
            labels = read_labels(scan.labels) if scan.labels else None
            data, labels, affine = to_common(
                read_image(scan.image)[0], labels, read_affine(scan.image), self.options
            )
            image = Volume.of(data[np.newaxis], affine, case=scan.case, center=scan.center)
            writer.add(image, labels=labels)
        writer.close()


@dataclass(frozen=True, kw_only=True)
class PluginStep(Step):
    """A step whose work a plugin does."""

    use: StageUse

    @property
    def settings(self) -> Mapping[str, Any]:
        options = self.use.options.model_dump(mode="json")
        return {"plugin": self.use.plugin.identity, "options": options}

    @property
    def who(self) -> str:
        """How messages name the plugin."""
        identity = self.use.plugin.identity
        return f"plugin '{identity['name']}' ({identity['distribution']} {identity['version']})"


@dataclass(frozen=True, kw_only=True)
class Fit(PluginStep):
    """Let a translator or augmenter learn."""

    labeled: tuple[Step, ...]
    target: Step
    fit_on: FitOn

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.labeled, self.target)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fit_on": self.fit_on.model_dump()}

    def make(self, folder_of: Where, ctx: Context) -> None:
        labeled = load_cohorts(self.labeled, folder_of).only(self.fit_on.keeps)
        target = Cohort.load(folder_of(self.target)).only(self.fit_on.keeps)
        stage = cast("Translator[Any] | Augmenter[Any]", self.use.stage())
        save_state(ctx.folder, stage.fit(labeled, target, ctx))


@dataclass(frozen=True, kw_only=True)
class Translate(PluginStep):
    """Translate every source image; label maps come along unchanged."""

    fit: Fit
    source: Step

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.fit, self.source)

    def make(self, folder_of: Where, ctx: Context) -> None:
        source = Cohort.load(folder_of(self.source))
        stage = cast("Translator[Any]", self.use.stage())
        given, checked = tee(ctx.progress(source.volumes(), total=len(source)))
        results = stage.translate(given, load_state(folder_of(self.fit)), ctx)
        writer = CohortWriter(ctx.folder, source.classes)
        for volume, case in zip(
            contract.translations(checked, results, self.who), source.cases, strict=True
        ):
            labels = read_labels(case.labels) if case.labels else None
            writer.add(volume, patient=case.patient, labels=labels)
        writer.close()


@dataclass(frozen=True, kw_only=True)
class Augment(PluginStep):
    """Make augmented copies; the originals are not repeated here."""

    fit: Fit
    labeled: Step

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.fit, self.labeled)

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.labeled))
        stage = cast("Augmenter[Any]", self.use.stage())
        pairs = ctx.progress(cohort.pairs(), total=len(cohort))
        results = stage.augment(pairs, load_state(folder_of(self.fit)), ctx)
        given = {case.case: case for case in cohort.cases}
        writer = CohortWriter(ctx.folder, cohort.classes)
        for pair in contract.copies(given, results, cohort.classes, self.who):
            writer.add_pair(pair)
        writer.close()


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
    keep_probabilities: bool

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.models, self.images)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "keep_probabilities": self.keep_probabilities}

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.images))
        scans = {scan.case: scan for scan in self.images.scans(folder_of)}
        states = [load_state(folder_of(model)) for model in self.models]
        for prediction in self._ensemble(cohort, states, ctx):
            image = scans[prediction.case].image
            native = Grid(*read_grid(image))
            labels = to_native(prediction.probabilities, prediction.image.affine, native)
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


def load_cohorts(steps: tuple[Step, ...], folder_of: Where) -> Cohort:
    """The cohorts of several steps as one."""
    first, *others = (Cohort.load(folder_of(step)) for step in steps)
    for other in others:
        first = first + other
    return first


def save_state(folder: Path, state: State) -> None:
    """Store what a stage has learned; no pickle."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    save_file(arrays, folder / "state.safetensors")


def load_state(folder: Path) -> State:
    """What a stage has learned."""
    from safetensors.numpy import load_file

    state: State = load_file(folder / "state.safetensors")
    return state


def label_map(folder: Path, case: str) -> Path:
    """Where a Predict step keeps the label map of a case, on the grid of the scan."""
    return folder / "labels" / f"{case}.nii.gz"


def save_probabilities(folder: Path, prediction: Prediction) -> None:
    """Keep class probabilities ``(1 + classes, I, J, K)`` in half precision."""
    path = folder / "probabilities" / f"{prediction.case}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, prediction.probabilities.astype(np.float16), allow_pickle=False)


def load_prediction(folder: Path, image: Volume) -> Prediction:
    """The prediction a Predict step kept for an image."""
    path = folder / "probabilities" / f"{image.case}.npy"
    probabilities: FloatArray = np.load(path, allow_pickle=False).astype(np.float32)
    return Prediction(image, probabilities)
