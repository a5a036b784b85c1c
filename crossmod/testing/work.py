"""Let a stage of any kind learn, and use what it has learned, as the steps of a run do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from typing import Any

import numpy as np

from crossmod.data.cohorts import Cohort
from crossmod.data.state import State, load_state, save_state
from crossmod.data.volumes import FloatArray, LabelArray, Prediction
from crossmod.stages import contract
from crossmod.stages.base import (
    Augmenter,
    History,
    PairTranslator,
    PseudoLabeler,
    Segmenter,
    Stage,
    Translator,
)
from crossmod.stages.context import Context
from crossmod.testing.cohorts import Trial

Results = list[FloatArray | LabelArray]


@dataclass(frozen=True)
class Given:
    """The cohorts of a trial."""

    trial: Trial
    labeled: Cohort
    target: Cohort


def learns(stage: Stage[Any]) -> bool:
    """Whether a stage has a `fit` that does something."""
    method = getattr(type(stage), "fit", None)
    return method not in (None, Translator.fit, Augmenter.fit)


@singledispatch
def fit(stage: Stage[Any], given: Given, ctx: Context) -> State:
    """What a stage learns, as the next step reads it from its folder.

    Raises:
        PluginError: the stage breaks the contract.
    """
    raise NotImplementedError


@fit.register(Translator)
@fit.register(Augmenter)
def _fit_to_target(stage: Any, given: Given, ctx: Context) -> State:
    return _stored(stage, stage.fit(given.labeled, given.target, ctx), ctx)


@fit.register(Segmenter)
def _fit_fold(stage: Segmenter[Any], given: Given, ctx: Context) -> State:
    [(train, validation), *_] = given.labeled.folds(given.trial.folds, seed=0)
    if stage.weighs_cases:
        first, *others = train.cases
        train = replace(train, cases=(replace(first, weight=0.5), *others))
    return _stored(stage, stage.fit(train, validation, ctx), ctx)


def _stored(stage: Stage[Any], state: object, ctx: Context) -> State:
    """What was learned, as other steps find it."""
    save_state(ctx.folder, contract.learned(state, _who(stage)))
    return load_state(ctx.folder)


def _who(stage: Stage[Any]) -> str:
    return type(stage).__name__


@singledispatch
def use(stage: Stage[Any], state: State, given: Given, ctx: Context) -> Results:
    """What a stage makes; labels are the numbers of the structures that they stand for.

    Raises:
        PluginError: the stage breaks the contract.
    """
    raise NotImplementedError


@use.register(Translator)
def _translate(stage: Translator[Any], state: State, given: Given, ctx: Context) -> Results:
    results = stage.translate(given.labeled.volumes(), state, ctx)
    checked = contract.translations(given.labeled.volumes(), results, _who(stage))
    return [volume.data for volume in checked]


@use.register(PairTranslator)
def _translate_pairs(
    stage: PairTranslator[Any], state: State, given: Given, ctx: Context
) -> Results:
    results = stage.translate_pairs(given.labeled.pairs(), state, ctx)
    originals = {case.case: case for case in given.labeled.cases}
    checked = contract.pair_translations(originals, results, given.trial.classes, _who(stage))
    return [pair.image.data for pair in checked]


@use.register(Augmenter)
def _augment(stage: Augmenter[Any], state: State, given: Given, ctx: Context) -> Results:
    results = stage.augment(given.labeled.pairs(), state, ctx)
    originals = {case.case: case for case in given.labeled.cases}
    copies = contract.copies(originals, results, given.trial.classes, _who(stage))
    made: Results = []
    for pair in copies:
        made += [pair.image.data, given.trial.structures(pair.labels)]
    return made


@use.register(Segmenter)
def _predict(stage: Segmenter[Any], state: State, given: Given, ctx: Context) -> Results:
    results = stage.predict(given.target.volumes(), state, ctx)
    checked = contract.predictions(
        given.target.volumes(), results, given.trial.classes, _who(stage)
    )
    return [prediction.probabilities for prediction in checked]


@use.register(PseudoLabeler)
def _select(stage: PseudoLabeler[Any], state: State, given: Given, ctx: Context) -> Results:
    history = History(source=given.labeled if stage.reads_source else None)
    results = stage.select(_guesses(given.labeled, stage.reads_folds), history, ctx)
    originals = {case.case: case for case in given.labeled.cases}
    checked = contract.selections(originals, results, given.trial.classes, _who(stage))
    made: Results = [given.trial.structures(pair.labels) for pair in checked]
    done = contract.decision(stage.done(History((given.labeled,))), _who(stage))
    return [*made, np.array([done], np.uint8)]


def _guesses(labeled: Cohort, folds: bool) -> Iterator[Prediction]:
    """Confident predictions that are right; where asked for, two folds agree."""
    channels = range(1 + len(labeled.classes))
    for pair in labeled.pairs():
        shares = [0.1 + (0.9 - 0.1 * len(labeled.classes)) * (pair.labels == n) for n in channels]
        both = np.stack([pair.labels, pair.labels])
        read = partial(np.copy, both) if folds else None
        yield Prediction(pair.image, np.stack(shares).astype(np.float32), read)
