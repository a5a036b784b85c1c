"""The contract every stage must pass, for plugin authors.

    def test_my_translator(tmp_path):
        check_stage(MyTranslator(), tmp_path)

Small random cohorts go through the stage the way a run would send them, once from the start and
once more; the core's checks apply, and both times must give the same numbers. `check_resume` kills
a training wherever it is told to, and lets it go on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data.crossmoda import DEFAULT_CENTERS, DEFAULT_CLASSES
from crossmod.data.state import Arrays, State, load_state, save_state
from crossmod.data.volumes import (
    Cohort,
    CohortWriter,
    FloatArray,
    LabelArray,
    Prediction,
    Volume,
)
from crossmod.errors import PluginError
from crossmod.faults import FAULT
from crossmod.files.atomic import published
from crossmod.stages import contract
from crossmod.stages.base import (
    Augmenter,
    Context,
    History,
    PseudoLabeler,
    Segmenter,
    Stage,
    Translator,
)
from crossmod.stages.guard import guarded, programs
from crossmod.store.checkpoints import Checkpoints

CLASSES = dict(DEFAULT_CLASSES)
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
        center = list(DEFAULT_CENTERS)[number % 2]
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
        PluginError: the stage breaks the contract, writes outside of its folder, leaves there what
            cannot be kept, changes what all steps of a process share, leaves threads or programs
            running, or gives other numbers the second time.
    """
    labeled = small_cohort(folder / "labeled", labeled=True)
    target = small_cohort(folder / "target", labeled=False, seed=1)
    first, second = (
        _guarded_work(stage, labeled, target, folder / f"run-{number}") for number in (1, 2)
    )
    for one, other in zip(first, second, strict=True):
        if not np.array_equal(one, other):
            raise PluginError("gives other results with the same seed", where=_who(stage))


def _guarded_work(
    stage: Stage[Any], labeled: Cohort, target: Cohort, folder: Path
) -> list[FloatArray | LabelArray]:
    changes: list[str] = []
    with published(folder, {}) as place:
        ctx = Context(folder=place, seed=7, classes=CLASSES)
        with guarded(_who(stage), ctx.seed, (place,), place.parent, changes.append):
            results = _work(stage, labeled, target, ctx)
    if changes:
        raise PluginError(changes[0], fix="draw random numbers from ctx.rng; leave the rest alone")
    return results


def _stored(state: object, who: str, folder: Path) -> State:
    """What was learned, as other steps find it."""
    save_state(folder, contract.learned(state, who))
    return load_state(folder)


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
    state = _stored(stage.fit(labeled, target, ctx), _who(stage), ctx.folder)
    results = stage.translate(labeled.volumes(), state, ctx)
    checked = contract.translations(labeled.volumes(), results, _who(stage))
    return [volume.data for volume in checked]


@_work.register(Augmenter)
def _augment(
    stage: Augmenter[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    state = _stored(stage.fit(labeled, target, ctx), _who(stage), ctx.folder)
    results = stage.augment(labeled.pairs(), state, ctx)
    given = {case.case: case for case in labeled.cases}
    copies = contract.copies(given, results, CLASSES, _who(stage))
    return [pair.image.data for pair in copies]


@_work.register(Segmenter)
def _segment(
    stage: Segmenter[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    [(train, validation), *_] = labeled.folds(3, seed=0)
    state = _stored(stage.fit(train, validation, ctx), _who(stage), ctx.folder)
    results = stage.predict(target.volumes(), state, ctx)
    checked = contract.predictions(target.volumes(), results, CLASSES, _who(stage))
    return [prediction.probabilities for prediction in checked]


@_work.register(PseudoLabeler)
def _pseudo_label(
    stage: PseudoLabeler[Any], labeled: Cohort, target: Cohort, ctx: Context
) -> list[FloatArray | LabelArray]:
    results = stage.select(_guesses(labeled), History(), ctx)
    given = {case.case: case for case in labeled.cases}
    checked = contract.selections(given, results, CLASSES, _who(stage))
    pairs: list[FloatArray | LabelArray] = [pair.labels for pair in checked]
    contract.decision(stage.done(History((labeled,))), _who(stage))
    return pairs


def _guesses(labeled: Cohort) -> Iterator[Prediction]:
    """Confident predictions that are right."""
    for pair in labeled.pairs():
        shares = [0.1 + 0.7 * (pair.labels == label) for label in range(1 + len(CLASSES))]
        yield Prediction(pair.image, np.stack(shares).astype(np.float32))


class Killed(Exception):
    """Ends a training for a test."""


class Watched(Checkpoints):
    """Keeps a checkpoint after every step, and ends the training after one of them.

    Args:
        place: a folder; the stage works in ``work``, checkpoints lie in ``checkpoints``.
        last: the step after whose checkpoint it ends; None lets it go on.
    """

    def __init__(self, place: Path, last: int | None = None) -> None:
        super().__init__(place / "checkpoints", place / "work", minutes=0)
        self.last = last
        self.began: int | None = None
        self.total: int | None = None

    def steps(self, start: int, total: int, phase: int | None) -> Iterable[int]:
        """All steps; notes where they begin and end."""
        self.began, self.total = start, total
        return super().steps(start, total, phase)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep a state, and end if it is the last.

        Raises:
            Killed: it is.
        """
        super().save(step, write)
        if step == self.last:
            raise Killed


def check_resume(fit: Callable[[Context], Arrays], folder: Path, steps: Iterable[int]) -> None:
    """Kill trainings, let them go on, and compare everything with a training left alone.

    For each step a training is killed twice: after the step, before its checkpoint; and when it
    has done the step again, after its checkpoint.

    Args:
        fit: trains with `crossmod.torch.resumable`; begins with new objects at each call.
        folder: an empty folder to work in.
        steps: after how many steps to kill it, from 1.

    Raises:
        PluginError: a step is never reached, a training does not go on from its checkpoint, or
            arrays or files differ by a bit from those of the undisturbed training.
    """
    expected = _outcome(fit, folder / "undisturbed", None)
    for step in steps:
        place = folder / f"step-{step}"
        if _outcome(fit, place, Watched(place), f"*:step-{step}:raise"):
            raise PluginError("is not a step of `resumable`", where=place.name)
        found = None
        for done, last in ((step - 1, step), (step, None)):
            if found is None:  # else this was the last step, which has no checkpoint
                watched = Watched(place, last)
                found = _outcome(fit, place, watched)
                if watched.began != done:
                    raise PluginError("does not go on from its checkpoint", where=place.name)
        _require_same(expected, found, place.name)
        shutil.rmtree(place)


Outcome = tuple[dict[str, Any], dict[str, bytes]]


def _outcome(
    fit: Callable[[Context], Arrays], place: Path, checkpoints: Checkpoints | None, fault: str = ""
) -> Outcome | None:
    """What was learned, and the content of the files; None if the training was killed."""
    work = place / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    def metric(**values: float) -> None:
        with (work / "training.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    ctx = Context(work, seed=7, classes=CLASSES, checkpoints=checkpoints, metric=metric)
    try:
        # As in a run, programs end with a training that is killed.
        with _happening(fault), programs.ended("fit", lambda text: None):
            learned = fit(ctx)
    except Killed:
        return None
    except RuntimeError as error:
        if fault and str(error) == f"fault {fault}":
            return None
        raise
    notes = learned.notes if isinstance(learned, State) else {}
    found = {name: np.asarray(array) for name, array in learned.items()} | {"notes": notes}
    files = [path for path in sorted(work.rglob("*")) if path.is_file()]
    return found, {path.relative_to(work).as_posix(): path.read_bytes() for path in files}


@contextmanager
def _happening(fault: str) -> Iterator[None]:
    before = os.environ.get(FAULT)
    os.environ[FAULT] = fault
    try:
        yield
    finally:
        del os.environ[FAULT]
        if before is not None:
            os.environ[FAULT] = before


def _require_same(expected: Outcome | None, found: Outcome | None, where: str) -> None:
    for one, other in zip(expected or (), found or (), strict=True):
        names = [name for name in {**one, **other} if not _same(one.get(name), other.get(name))]
        if names:
            raise PluginError(f"ends with another {', '.join(names[:5])}", where=where)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    return bool(one == other)
