"""Kill training and resume it: nothing may be lost, and nothing may differ."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data.state import Arrays, State
from crossmod.errors import PluginError
from crossmod.faults import FAULT
from crossmod.stages.context import Context
from crossmod.stages.guard import programs
from crossmod.store.checkpoints import Checkpoints
from crossmod.testing.cohorts import CLASSES


class Killed(Exception):
    """Ends training in a test."""


class Watched(Checkpoints):
    """Saves a checkpoint after every step but the last, and ends training after one of them.

    Args:
        place: a folder; the stage works in ``work``, checkpoints are in ``checkpoints``.
        last: the step after whose checkpoint training ends; None: it does not end early.
    """

    def __init__(self, place: Path, last: int | None = None) -> None:
        super().__init__(place / "checkpoints", place / "work", minutes=0)
        self.last = last
        self.began: int | None = None
        self.total: int | None = None

    def steps(self, start: int, total: int, phase: int | None) -> Iterable[int]:
        """All steps; records where they begin and end."""
        self.began, self.total = start, total
        return super().steps(start, total, phase)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Save a state, and end training if this is the last.

        Raises:
            Killed: this is the last.
        """
        super().save(step, write)
        if step == self.last:
            raise Killed


def check_resume(fit: Callable[[Context], Arrays], folder: Path, steps: Iterable[int]) -> None:
    """Kill training, resume it, and compare everything with uninterrupted training.

    For each step, training is killed twice: after the step, before its checkpoint; and, when the
    step has been repeated, after its checkpoint.

    Args:
        fit: trains with `crossmod.torch.resumable`; creates new objects in each call.
        folder: an empty folder to work in.
        steps: after which steps to kill it, counted from 1.

    Raises:
        PluginError: a step is never reached, training does not resume from its checkpoint, or
            arrays or files differ by a bit from those of uninterrupted training.
    """
    expected = _outcome(fit, folder / "undisturbed", None)
    for step in steps:
        place = folder / f"step-{step}"
        if _outcome(fit, place, Watched(place), f"*:step-{step}:raise"):
            raise PluginError(
                "training ended before this step",
                where=place.name,
                fix="name steps that `resumable` yields, counted from 1",
            )
        found = None
        for done, last in ((step - 1, step), (step, None)):
            if found is None:  # else this was the last step, which has no checkpoint
                watched = Watched(place, last)
                found = _outcome(fit, place, watched)
                if watched.began != done:
                    raise PluginError(
                        "does not resume from its checkpoint",
                        where=place.name,
                        fix="loop over `crossmod.torch.resumable`, and pass it `ctx`",
                    )
        _require_same(expected, found, place.name)
        shutil.rmtree(place)


Outcome = tuple[dict[str, Any], dict[str, bytes]]
"""What a training leaves: arrays and notes by name, and the bytes of each file by its path."""


def _outcome(
    fit: Callable[[Context], Arrays], place: Path, checkpoints: Checkpoints | None, fault: str = ""
) -> Outcome | None:
    """What was learned, and the content of the files; None if training was killed."""
    work = place / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    def metric(**values: float) -> None:
        with (work / "training.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    ctx = Context(work, seed=7, classes=CLASSES, checkpoints=checkpoints, metric=metric)
    try:
        # As in a run, programs end when training is killed.
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
            raise PluginError(
                f"resumed training ends with another {', '.join(names[:5])}",
                where=where,
                fix="pass everything that steps change to `resumable` as a part, and draw random"
                " numbers from ctx.rng",
            )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    return bool(one == other)
