"""The contract every stage must pass, for plugin authors.

    def test_my_translator(tmp_path):
        check_stage(MyTranslator(), tmp_path)

Small random cohorts go through the stage the way a run would send them, once from the start and
once more; the core's checks apply, and both times must give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from crossmod import contract
from crossmod.data import Cohort, CohortWriter, FloatArray, LabelArray, Prediction, Volume
from crossmod.errors import PluginError
from crossmod.stages import (
    Augmenter,
    Context,
    History,
    PseudoLabeler,
    Segmenter,
    Stage,
    Translator,
)

CLASSES = {"tumor": 1, "cochlea": 2}
SHAPE = (28, 32, 12)
SPACING_MM = (1.5, 1.2, 2.0)


def small_cohort(folder: Path, *, labeled: bool, cases: int = 3, seed: int = 0) -> Cohort:
    """Write smooth random images ``(28, 32, 12)`` in [0, 1] with a bright labeled ball."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    writer = CohortWriter(folder, CLASSES)
    for number in range(cases):
        noise = ndimage.gaussian_filter(rng.random(SHAPE), 1.5)
        labels = _ball((14, 16, 6), 4) + 2 * _ball((5, 6, 6), 1.5)
        image = np.clip(noise + 0.4 * (labels == 1), 0, 1).astype(np.float32)
        affine = np.diag([*SPACING_MM, 1.0])
        affine[:3, 3] = rng.normal(size=3)
        center = "ldn" if number % 2 == 0 else "etz"
        volume = Volume.of(image[np.newaxis], affine, case=f"case-{number}", center=center)
        writer.add(volume, labels=labels.astype(np.uint8) if labeled else None)
    return writer.close()


def _ball(center: tuple[float, ...], radius: float) -> LabelArray:
    distance = sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), center, strict=True))
    ball: LabelArray = (distance <= radius**2).astype(np.uint8)
    return ball


def check_stage(stage: Stage[Any], folder: Path) -> None:
    """Send small cohorts through a stage twice.

    Args:
        stage: the stage with options that make it fast.
        folder: an empty folder to work in.

    Raises:
        PluginError: the stage breaks the contract or gives other numbers the second time.
    """
    labeled = small_cohort(folder / "labeled", labeled=True)
    target = small_cohort(folder / "target", labeled=False, seed=1)
    first, second = (
        _work(stage, labeled, target, _context(folder / f"run-{number}")) for number in (1, 2)
    )
    for one, other in zip(first, second, strict=True):
        if not np.array_equal(one, other):
            raise PluginError("gives other results with the same seed", where=_who(stage))


def _context(folder: Path) -> Context:
    folder.mkdir()
    return Context(folder=folder, seed=7, classes=CLASSES)


def _who(stage: Stage[Any]) -> str:
    return type(stage).__name__


@singledispatch
def _work(
    stage: Stage[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    raise PluginError("is none of the four stages", where=_who(stage))


@_work.register(Translator)
def _translate(
    stage: Translator[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    state = stage.fit(labeled, target, ctx)
    results = stage.translate(labeled.volumes(), state, ctx)
    checked = contract.translations(labeled.volumes(), results, _who(stage))
    return [volume.data for volume in checked]


@_work.register(Augmenter)
def _augment(
    stage: Augmenter[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    state = stage.fit(labeled, target, ctx)
    results = stage.augment(labeled.pairs(), state, ctx)
    given = {case.case: case for case in labeled.cases}
    copies = contract.copies(given, results, CLASSES, _who(stage))
    return [pair.image.data for pair in copies]


@_work.register(Segmenter)
def _segment(
    stage: Segmenter[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    [(train, validation), *_] = labeled.folds(3, seed=0)
    state = stage.fit(train, validation, ctx)
    results = stage.predict(target.volumes(), state, ctx)
    checked = contract.predictions(target.volumes(), results, CLASSES, _who(stage))
    return [prediction.probabilities for prediction in checked]


@_work.register(PseudoLabeler)
def _pseudo_label(
    stage: PseudoLabeler[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    results = stage.select(_guesses(labeled), History(), ctx)
    given = {case.case: case for case in labeled.cases}
    pairs = contract.selections(given, results, CLASSES, _who(stage))
    stage.done(History((labeled,)))
    return [pair.labels for pair in pairs]


def _guesses(labeled: Cohort) -> Iterator[Prediction]:
    """Confident predictions that are right."""
    for pair in labeled.pairs():
        shares = [0.1 + 0.7 * (pair.labels == label) for label in range(1 + len(CLASSES))]
        yield Prediction(pair.image, np.stack(shares).astype(np.float32))
