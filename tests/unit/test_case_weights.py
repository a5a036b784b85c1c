"""Weights, masks and folds on their way through files and the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from crossmod import Cohort, Context, Pair, PluginError, Prediction, State, Volume
from crossmod.data.classes import Classes
from crossmod.data.cohorts import CohortWriter
from crossmod.model.ensemble import Ensemble
from crossmod.model.views import VIEWS, View, lateral_axis
from crossmod.run.steps.kept import load_prediction, save_folds, save_probabilities
from crossmod.run.steps.segmentation import _tell_unheeded
from crossmod.stages import contract

CLASSES = {"tumor": 1}
SHAPE = (7, 6, 5)
AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


def volume(case: str = "a", affine: np.ndarray[Any, Any] = AFFINE) -> Volume:
    data = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    return Volume.of(data, affine, case=case, center="ldn")


def pair(**changes: Any) -> Pair:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4] = 1
    return replace(Pair(volume(), labels, "a"), **changes)


def written(folder: Path, given: Pair) -> Cohort:
    writer = CohortWriter(folder, CLASSES)
    writer.add_pair(given)
    return writer.close()


def test_weight_and_mask_come_back_from_files(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[3, 2] = True
    written(tmp_path, pair(weight=0.25, ignore=mask))
    [case] = Cohort.load(tmp_path).cases
    found = case.pair()
    assert (case.weight, found.weight) == (0.25, 0.25)
    np.testing.assert_array_equal(found.ignore, mask)
    assert found.with_data(found.image.data).weight == 0.25
    assert found.copy_as("x", found.image.data).ignore is found.ignore


def test_a_cohort_without_them_is_written_as_before(tmp_path: Path) -> None:
    written(tmp_path, pair())
    [row] = json.loads((tmp_path / "cohort.json").read_text("utf-8"))["cases"]
    assert list(row) == ["case", "patient", "center", "image", "labels"]
    assert not (tmp_path / "ignore").exists()
    found = Cohort.load(tmp_path).cases[0].pair()
    assert (found.weight, found.ignore) == (1.0, None)


def selected(folder: Path, **changes: Any) -> Pair:
    given = {case.case: case for case in written(folder, pair()).cases}
    [found] = contract.selections(given, [pair(**changes)], CLASSES, "plugin 'p'")
    return found


def test_the_contract_passes_weights_and_masks_on(tmp_path: Path) -> None:
    mask = np.ones(SHAPE, bool)
    found = selected(tmp_path, weight=np.float32(0.5), ignore=mask)
    assert found.weight == 0.5
    assert found.ignore is mask
    assert selected(tmp_path, ignore=~mask).ignore is None  # which masks nothing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": 0.0}, "weight 0.0"),
        ({"weight": -1}, "weight -1"),
        ({"weight": np.inf}, "weight inf"),
        ({"weight": np.nan}, "weight nan"),
        ({"weight": "1"}, "weight '1'"),
        ({"ignore": np.zeros((1, 2, 3), bool)}, r"yielded ignore of shape \(1, 2, 3\)"),
        ({"ignore": np.zeros(SHAPE)}, "ignore holds values of type float64"),
    ],
)
def test_the_contract_refuses_broken_ones(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=words) as caught:
        selected(tmp_path, **changes)
    assert "plugin 'p', case a" in str(caught.value)


def shares_of(image: Volume) -> np.ndarray[Any, Any]:
    """Tumor where the image is bright: what does not depend on where a voxel lies."""
    return np.stack([1 - image.data[0], image.data[0]])


def test_folds_are_kept_and_read_when_needed(tmp_path: Path) -> None:
    image = volume()
    one = Prediction(image, shares_of(image))
    other = Prediction(image, 1 - one.probabilities)
    save_probabilities(tmp_path, one)
    assert load_prediction(tmp_path, image).folds.shape == (0, *SHAPE)
    save_folds(tmp_path, (one, other))
    folds = load_prediction(tmp_path, image).folds
    np.testing.assert_array_equal(folds, [one.labels, other.labels])
    assert folds.dtype == np.uint8


class Bright:
    """A segmenter that looks at one voxel at a time, and counts what it is given."""

    def __init__(self) -> None:
        self.given = 0

    def predict(
        self, volumes: Iterable[Volume], state: State, ctx: Context
    ) -> Iterator[Prediction]:
        for one in volumes:
            self.given += 1
            yield Prediction(one, shares_of(one))


def ensemble_of(stage: Any) -> Ensemble:
    use = SimpleNamespace(stage=lambda: stage, who="plugin 'p'")
    return Ensemble(cast("Any", use), Classes({"tumor": (1,)}), "probabilities", ())


def test_views_of_a_single_fold_agree_where_it_is_sure(tmp_path: Path) -> None:
    stage, images = Bright(), [volume("a"), volume("b")]
    found = list(ensemble_of(stage).views(images, [State()], Context(tmp_path)))
    assert [[one.case for one in views] for views in found] == [["a"] * 4, ["b"] * 4]
    assert stage.given == 2 * len(VIEWS)
    for image, views in zip(images, found, strict=True):
        for one in views:
            assert one.image is image
            np.testing.assert_array_equal(one.probabilities, shares_of(image))


def test_a_segmenter_that_yields_too_much_for_views_is_named(tmp_path: Path) -> None:
    class Eager(Bright):
        def predict(self, volumes: Any, state: State, ctx: Context) -> Iterator[Prediction]:
            yield from (found := list(super().predict(volumes, state, ctx)))
            yield found[-1]

    with pytest.raises(PluginError, match="more results than volumes"):
        list(ensemble_of(Eager()).views([volume()], [State()], Context(tmp_path)))


def test_a_mirrored_view_exchanges_left_and_right() -> None:
    turned = AFFINE[[1, 0, 2, 3]]  # the second axis of the voxels runs left and right
    assert (lateral_axis(AFFINE), lateral_axis(turned)) == (0, 1)
    image = volume(affine=turned)
    np.testing.assert_array_equal(View(mirrored=True).of(image).data, image.data[:, :, ::-1])
    assert View(shift=2).of(image).grid == tuple(n + 2 for n in SHAPE)


def test_a_segmenter_that_heeds_none_of_it_warns(tmp_path: Path) -> None:
    """Of pseudo-labelers that do not say beforehand that they give weights."""
    said: list[str] = []
    cohort = written(tmp_path, pair(weight=0.5, ignore=np.ones(SHAPE, bool)))
    _tell_unheeded(cohort, "plugin 'p'", Context(tmp_path, log=said.append))
    [line] = said
    assert line.startswith("warning: plugin 'p' learns from all voxels of all cases alike")
    assert "the weights of 1 and the masks of 1 cases" in line
    _tell_unheeded(written(tmp_path, pair()), "plugin 'p'", Context(tmp_path, log=said.append))
    assert len(said) == 1
