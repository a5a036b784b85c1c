"""Folds as one segmenter: averages, agreement, file values."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from processor import rounding

from crossmod import Prediction, Volume
from crossmod.data.classes import Classes
from crossmod.data.grids import Grid
from crossmod.data.overlap import agreement
from crossmod.model.ensemble import Ensemble
from crossmod.stages.find import StageUse

CLASSES = Classes({"tumor": (1, 2), "cochlea": (7,)})
SHAPE = (6, 5, 4)
IMAGE = Volume.of(np.zeros((1, *SHAPE), np.float32), np.eye(4), case="a")
UNUSED = cast(StageUse, None)


def softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(scores - scores.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0), dtype=np.float32)


@pytest.fixture
def scores() -> np.ndarray[Any, Any]:
    """Class scores of three folds."""
    return np.random.default_rng(1).normal(0, 2, (3, 3, *SHAPE))


def members(scores: np.ndarray[Any, Any]) -> list[Prediction]:
    return [Prediction(IMAGE, softmax(one)) for one in scores]


def test_probabilities_and_logits_are_averaged_as_they_say(scores: np.ndarray[Any, Any]) -> None:
    plain = Ensemble(UNUSED, CLASSES, "probabilities", ()).joined(members(scores))
    expected = np.mean([softmax(one) for one in scores], axis=0)
    np.testing.assert_allclose(plain.probabilities, expected, rtol=0, atol=rounding(8))
    logits = Ensemble(UNUSED, CLASSES, "logits", ()).joined(members(scores))
    # Logarithms of three probabilities, down to -14, are averaged before the softmax.
    expected = softmax(scores.mean(axis=0))
    np.testing.assert_allclose(logits.probabilities, expected, rtol=0, atol=rounding(12, size=14))
    assert np.abs(logits.probabilities - plain.probabilities).max() > 0.05


def test_agreement_is_the_mean_dice_of_every_two_folds() -> None:
    maps = np.zeros((3, 3, *SHAPE), np.float32)
    maps[:, 0] = 0.5
    for fold, width in enumerate((2, 2, 1)):
        maps[fold, 1, :width] = 1
    found = agreement([one.argmax(axis=0).astype(np.uint8) for one in maps], CLASSES.labels)
    assert found["tumor"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["cochlea"] == 1  # no fold found any
    assert math.isnan(agreement([np.zeros(SHAPE, np.uint8)], CLASSES.labels)["tumor"])


def test_outlines_carry_the_values_of_label_files() -> None:
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0] = 0.4
    probabilities[1, :2] = 0.6
    probabilities[1, 5] = 0.6  # a second component
    probabilities[2, 3] = 0.6
    ensemble = Ensemble(UNUSED, CLASSES, "probabilities", ("tumor",))
    outline = ensemble.outline(Prediction(IMAGE, probabilities), Grid(SHAPE, np.eye(4)))
    assert outline.labels[:, 0, 0].tolist() == [1, 1, 0, 7, 0, 0]
    assert outline.removed_mm3 == {"tumor": math.prod(SHAPE[1:])}
