"""Send small cohorts through a stage as a run does, and vary what differs between data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from pydantic import ValidationError

from crossmod.data.crossmoda import DEFAULT_STRUCTURE
from crossmod.data.state import State
from crossmod.errors import DataError, PluginError, RecipeError
from crossmod.files.atomic import published
from crossmod.options import Location, NameIn, with_names
from crossmod.stages.base import Augmenter, Stage, Translator
from crossmod.stages.context import Context
from crossmod.stages.entry_points import require_usable
from crossmod.stages.find import KINDS
from crossmod.stages.guard import described, guarded
from crossmod.stages.tables import require_free_names
from crossmod.testing.cohorts import CLASSES, Trial
from crossmod.testing.memory import Memory, attributes_set
from crossmod.testing.work import Given, Results, fit, learns, use

ResultT = TypeVar("ResultT")

SEED = 7

NAMES = dict(zip(CLASSES, ("liver", "spleen"), strict=True))
"""What the structures are called in other trials."""

PLAIN = Trial()

RENAMED = Trial(classes={"liver": 1, "spleen": 2})

RENUMBERED = Trial(classes={"liver": 3, "spleen": 7}, balls=(3, 7))
"""For stages that look classes up. To segmenters a label is the number of a channel."""

SHAPES = ((27, 33, 5), (7, 30, 13), (29, 9, 11))
"""Sides that 2 does not divide, and a short one along each axis."""

ROOMY = ((27, 33, 13), (35, 26, 15), (29, 31, 11))
"""For stages that refuse images with a short side."""

REFUSALS = (RecipeError, DataError)
"""What a stage raises where images are too small for its options."""

FOUR_CLASSES = {"kidney": 1, "liver": 2, "pancreas": 3, "spleen": 4}
BALLS = (2, 4, 1, 3)

VARIED = Trial(SHAPES, FOUR_CLASSES, BALLS, folds=1, incomplete=True)


def check_stage(stage: Stage[Any], folder: Path) -> None:
    """Send small cohorts through a stage three times.

    First as they are. Then with other names and numbers of the classes, and with a new instance
    that uses what the first one has learned: results must be the same. Then with images of odd and
    different shapes, four classes, one of which an image lacks, and no validation images.

    Args:
        stage: the stage with options that make it fast. Options that name the class "tumor" or
            "cochlea" name other classes where these are called otherwise.
        folder: an empty folder to work in.

    Raises:
        PluginError: the stage breaks the contract, has options that crossmod reads itself, writes
            outside of its folder, leaves files there that cannot be kept, changes what all steps of
            a process share, leaves threads or programs running, gives other results the second
            time, keeps in the process or in files what it has learned, depends on the names or
            numbers of classes, or fails with some shapes or numbers of classes.
    """
    if not isinstance(stage, Stage):
        named = stage.__name__ if isinstance(stage, type) else type(stage).__name__
        raise PluginError("is not a stage", where=named, allowed="an instance, as MyStage(options)")
    who = type(stage).__name__
    require_usable(type(stage), who)
    kind = next((kind for kind, base in KINDS.items() if isinstance(stage, base)), None)
    if kind is None:
        allowed = ", ".join(base.__name__ for base in KINDS.values())
        raise PluginError("is none of the four stages", where=who, allowed=allowed)
    require_free_names(kind, stage.options_type, who)
    Check(stage, folder).run()


class Check:
    """Tries a stage."""

    def __init__(self, stage: Stage[Any], folder: Path) -> None:
        named = with_names(stage.options, _named)
        self.stage = stage if named is stage.options else type(stage)(named)
        self.folder = folder
        self.who = type(stage).__name__
        self.memory = Memory(type(stage))
        self.kept: list[str] = []
        self._numbers = count(1)

    def run(self) -> None:
        """Try everything.

        Raises:
            PluginError: see `check_stage`.
        """
        first = self._results(PLAIN, self.stage, new=False)
        looks_up = isinstance(self.stage, Translator | Augmenter)
        trial = RENUMBERED if looks_up else RENAMED
        if error := self._fault(first, trial):
            self._explain_second(first, trial, error)
        if error := self._fault(None, VARIED):
            roomy = replace(VARIED, shapes=ROOMY)
            if not isinstance(error, REFUSALS) or (error := self._fault(None, roomy)):
                self._explain_third(error)

    def _fault(self, expected: Results | None, trial: Trial) -> Exception | None:
        """What goes wrong where new instances are tried, which may have to give certain results."""
        try:
            found = self._new_results(trial)
        except Exception as error:
            return error
        as_expected = expected is None or _same(expected, found)
        return None if as_expected else PluginError("gives other results")

    def _explain_second(self, first: Results, trial: Trial, error: Exception) -> NoReturn:
        """Why a stage works at first, and fails or gives other results then."""
        if not _same(first, self._results(PLAIN, self.stage, new=False)):
            fix = f"draw random numbers from ctx.rng{self._hint()}"
            self._refuse("gives other results with the same seed", error, fix)
        if alone := self._fault(first, PLAIN):
            self._refuse(
                f"{_words(alone)} if a new instance uses what `fit` returned",
                alone,
                "return from `fit` all that is learned, and read it from `state`: crossmod creates"
                f" another instance, in another process, with another ctx.folder{self._hint()}",
            )
        called = " and ".join(f"{name} = {label}" for name, label in trial.classes.items())
        self._refuse(
            f"{_words(error)} if the classes are {called}",
            error,
            "look for names of classes and for labels in the code, such as `labels == 1`; take them"
            " from ctx.classes, and the class that is meant from an option",
        )

    def _explain_third(self, error: Exception) -> NoReturn:
        """Which of many changes a stage does not stand."""
        shapes = (
            "pad images to what the network needs, and crop its output; where options ask for"
            " larger images, raise a RecipeError that names the option"
        )
        single = {f"images of shape {one}": Trial((one,) * 3) for one in (*ROOMY, *SHAPES)}
        tries = {name: (trial, shapes) for name, trial in single.items()} | {
            "images of different shapes": (Trial(ROOMY), "do not stack whole images"),
            "4 classes": (
                Trial(classes=FOUR_CLASSES, balls=BALLS),
                "look for a number of classes or channels in the code; it is len(ctx.classes), and"
                " one more with the background",
            ),
            "an image that lacks a class": (
                replace(PLAIN, incomplete=True),
                "look for what takes every class to be in every label map",
            ),
            "no validation images": (
                replace(PLAIN, folds=1),
                "`validation` is empty where a recipe has one fold",
            ),
        }
        for name, (trial, fix) in tries.items():
            alone = self._fault(None, trial)
            if alone and not isinstance(alone, REFUSALS):
                self._refuse(f"{_words(alone)} with {name}", alone, fix)
        self._refuse(f"{_words(error)} with all of {', '.join(tries)}", error, shapes)

    def _refuse(self, what: str, error: Exception, fix: str) -> NoReturn:
        raise PluginError(what, where=self.who, fix=fix) from error

    def _hint(self) -> str:
        return f"; set in `fit`: {', '.join(self.kept[:5])}" if self.kept else ""

    def _new_results(self, trial: Trial) -> Results:
        """What new instances make."""
        named = NAMES if trial.classes is not CLASSES else {}
        kind, options = type(self.stage), renamed(self.stage.options, named)
        self.memory.restore()
        try:
            return self._results(trial, kind(options), new=True)
        finally:
            self.memory.restore()

    def _results(self, trial: Trial, stage: Stage[Any], *, new: bool) -> Results:
        """Learn and use it; with another instance, in a process that has forgotten, if `new`."""
        place = self.folder / f"run-{next(self._numbers)}"
        given = Given(trial, trial.labeled(place / "labeled"), trial.target(place / "target"))
        before = dict(vars(stage))
        state = State()
        if learns(stage):
            state = self._at_work(place / "fit", trial, lambda ctx: fit(stage, given, ctx))
        if not new:
            self.kept = self.kept or attributes_set(before, stage) + self.memory.changed()
        user = type(stage)(stage.options) if new else stage
        if new:
            self.memory.restore()
        try:
            return self._at_work(place / "use", trial, lambda ctx: use(user, state, given, ctx))
        except FileNotFoundError as error:
            name = Path(str(error.filename)).name
            if not (place / "fit" / name).exists():
                raise
            fix = "return what it holds from `fit`: other steps have another ctx.folder"
            self._refuse(f"looks for {name}, which `fit` wrote into its folder", error, fix)

    def _at_work(self, folder: Path, trial: Trial, work: Callable[[Context], ResultT]) -> ResultT:
        changes: list[str] = []
        with published(folder, {}) as place:
            ctx = Context(folder=place, seed=SEED, classes=trial.classes)
            with guarded(self.who, SEED, (place,), self.folder, changes.append):
                done = work(ctx)
        if changes:
            fix = "draw random numbers from ctx.rng; leave the rest alone"
            raise PluginError(changes[0], fix=fix)
        return done


def _named(kind: NameIn, name: str, location: Location) -> str:
    """A class that options leave open, as a recipe fills it in."""
    return name or (DEFAULT_STRUCTURE if kind.table == "classes" else name)


def renamed(options: Any, names: Mapping[str, str]) -> Any:
    """Options that name other classes where they name one; as they are if they refuse these."""
    if not names:
        return options
    try:
        return type(options).model_validate(_renamed(options.model_dump(by_alias=True), names))
    except ValidationError:
        return options


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {_renamed(key, names): _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_renamed(one, names) for one in value)
    return value


def _same(one: Results, other: Results) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _words(error: Exception) -> str:
    """What goes wrong, as the predicate of a sentence about a stage."""
    if isinstance(error, PluginError):
        where = error.where.partition(", ")[2]
        return f"{error.what} ({where})" if where else error.what
    return f"fails ({described(error)})"
