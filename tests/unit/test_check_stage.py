"""What `check_stage` finds in stages that work on one data set, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossmod import (
    Augmenter,
    Options,
    Pair,
    PluginError,
    Prediction,
    PseudoLabeler,
    RecipeError,
    Segmenter,
    Translator,
)
from crossmod.stages.tables import CORE_KEYS, TABLES
from crossmod.testing import check_stage
from crossmod.testing.cohorts import Trial
from crossmod.testing.memory import Memory

LEARNED: dict[str, float] = {}


class Identity(Translator[Options]):
    """Gives back what it is given."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
        yield from volumes


class OnSelf(Identity):
    def fit(self, source: Any, target: Any, ctx: Any) -> Any:
        self.net = 0.5
        return {}

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
        yield from (v.with_data(self.net * v.data) for v in volumes)


class OnSelfWithDefault(OnSelf):
    net = 1.0


class OnClass(OnSelf):
    net = 1.0

    def fit(self, source: Any, target: Any, ctx: Any) -> Any:
        type(self).net = 0.5
        return {}


class InModule(Identity):
    def fit(self, source: Any, target: Any, ctx: Any) -> Any:
        LEARNED["net"] = 0.5
        return {}

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
        yield from (v.with_data(LEARNED["net"] * v.data) for v in volumes)


@cache
def network() -> dict[str, float]:
    return {"weight": 1.0}


class InCache(Identity):
    def fit(self, source: Any, target: Any, ctx: Any) -> Any:
        network()["weight"] = 0.5
        return {}

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
        yield from (v.with_data(network()["weight"] * v.data) for v in volumes)


class InFolder(Identity):
    def fit(self, source: Any, target: Any, ctx: Any) -> Any:
        (ctx.folder / "net.txt").write_text("0.5")
        return {}

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
        weight = float((ctx.folder / "net.txt").read_text())
        yield from (v.with_data(weight * v.data) for v in volumes)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (OnSelf, r"(?s)AttributeError.*new instance.*set in `fit`: `net` of OnSelf"),
        (OnSelfWithDefault, r"(?s)gives other results if a new instance.*`net` of OnSelfWith"),
        (OnClass, r"(?s)gives other results if a new instance.*set in `fit`: `net` of OnClass"),
        (InModule, r"(?s)KeyError.*new instance.*`LEARNED` of module test_check_stage"),
        (InCache, "gives other results if a new instance uses what `fit` returned"),
    ],
)
def test_what_is_learned_is_returned(stage: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=words):
        check_stage(stage(), tmp_path)


def test_what_is_learned_is_not_in_the_folder_of_fit(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"looks for net\.txt, which `fit` wrote"):
        check_stage(InFolder(), tmp_path)


def test_results_that_follow_how_often_it_was_called_are_not_repeatable(tmp_path: Path) -> None:
    class Unseeded(Identity):
        def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
            rng = np.random.default_rng()
            yield from (v.with_data(rng.random() * v.data) for v in volumes)

    with pytest.raises(PluginError, match=r"(?s)other results with the same seed.*ctx\.rng"):
        check_stage(Unseeded(), tmp_path)


def halves(volume: Any, by: int, axis: int | None) -> Any:
    """What a network does that halves images and doubles them again, along one axis or all."""
    axes = [axis] if axis is not None else [1, 2, 3]
    data = volume.data
    for one in axes:
        data = data.take(range(0, data.shape[one] // by * by, by), one).repeat(by, one)
    return volume.with_data(data)


@pytest.mark.parametrize(("by", "axis"), [(4, None), (2, None), (2, 1), (2, 2), (2, 3)])
def test_shapes_that_a_network_does_not_stand(by: int, axis: int | None, tmp_path: Path) -> None:
    class Halves(Identity):
        def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
            yield from (halves(volume, by, axis) for volume in volumes)

    with pytest.raises(PluginError, match=r"(?s)with images of shape \(.*pad images"):
        check_stage(Halves(), tmp_path)


def test_a_short_side_is_tried_along_each_axis(tmp_path: Path) -> None:
    for axis in range(3):

        class Deep(Identity):
            def translate(self, volumes: Any, state: Any, ctx: Any, axis: int = axis) -> Any:
                for volume in volumes:
                    if volume.grid[axis] < 10:
                        raise ValueError("too deep")
                    yield volume

        with pytest.raises(PluginError, match=r"(?s)too deep.*with images of shape"):
            check_stage(Deep(), tmp_path / str(axis))


def test_images_of_different_shapes_are_not_stacked(tmp_path: Path) -> None:
    class Stacks(Identity):
        def fit(self, source: Any, target: Any, ctx: Any) -> Any:
            return {"mean": np.mean([volume.data for volume in target.volumes()], axis=0)}

    with pytest.raises(PluginError, match="with images of different shapes"):
        check_stage(Stacks(), tmp_path)


def test_a_stage_may_refuse_images_that_are_too_small_for_its_options(tmp_path: Path) -> None:
    class Refuses(Identity):
        def translate(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
            for volume in volumes:
                if min(volume.grid) < 10:
                    raise RecipeError("larger than the images", where="patch")
                yield volume

    check_stage(Refuses(), tmp_path)


class Named(Options):
    structure: str = "tumor"
    """A class."""


class Brightens(Augmenter[Named]):
    """Makes a structure brighter."""

    def label(self, ctx: Any) -> int:
        return int(ctx.classes[self.options.structure])

    def augment(self, pairs: Any, state: Any, ctx: Any) -> Iterator[Pair]:
        for pair in pairs:
            mask = pair.labels == self.label(ctx)
            yield pair.copy_as("b", np.where(mask, 0.9, pair.image.data))


def test_options_that_name_a_class_follow_it(tmp_path: Path) -> None:
    check_stage(Brightens(), tmp_path / "tumor")
    check_stage(Brightens(Named(structure="cochlea")), tmp_path / "cochlea")


def test_labels_and_names_in_the_code_are_found(tmp_path: Path) -> None:
    class Label(Brightens):
        def label(self, ctx: Any) -> int:
            return 1

    class Name(Brightens):
        def label(self, ctx: Any) -> int:
            return int(ctx.classes["tumor"])

    for stage, words in [(Label(), "gives other results"), (Name(), r"KeyError: 'tumor'")]:
        fix = r".* if the classes are liver = 3 and spleen = 7(?s:.*)labels == 1.*ctx\.classes"
        with pytest.raises(PluginError, match=words + fix):
            check_stage(stage, tmp_path / type(stage).__name__)


class Flat(Segmenter[Options]):
    """Is sure of nothing."""

    def channels(self, classes: Any) -> int:
        return 1 + len(classes)

    def fit(self, train: Any, validation: Any, ctx: Any) -> Any:
        return {}

    def predict(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Prediction]:
        count = self.channels(ctx.classes)
        for volume in volumes:
            yield Prediction(volume, np.full((count, *volume.grid), 1 / count, np.float32))


def test_a_number_of_channels_in_the_code_is_found(tmp_path: Path) -> None:
    class Three(Flat):
        def channels(self, classes: Any) -> int:
            return 3

    check_stage(Flat(), tmp_path / "flat")
    with pytest.raises(PluginError, match=r"(?s)yielded .*with 4 classes.*len\(ctx\.classes\)"):
        check_stage(Three(), tmp_path / "three")


def test_a_segmenter_stands_no_validation_images_and_labels_that_lack_a_class(
    tmp_path: Path,
) -> None:
    class Watches(Flat):
        def fit(self, train: Any, validation: Any, ctx: Any) -> Any:
            next(validation.pairs())
            return {}

    class Samples(Flat):
        def fit(self, train: Any, validation: Any, ctx: Any) -> Any:
            for pair in train.pairs():
                for label in ctx.classes.values():
                    ctx.rng().choice(np.flatnonzero(pair.labels == label))
            return {}

    with pytest.raises(PluginError, match="with no validation images"):
        check_stage(Watches(), tmp_path / "watches")
    with pytest.raises(PluginError, match="with an image that lacks a class"):
        check_stage(Samples(), tmp_path / "samples")


def test_a_pseudo_labeler_takes_classes_from_its_options(tmp_path: Path) -> None:
    class Selects(PseudoLabeler[Options]):
        def select(self, predictions: Any, history: Any, ctx: Any) -> Iterator[Pair]:
            for one in predictions:
                if (one.labels == ctx.classes["tumor"]).any():
                    yield one.pair(one.labels)

        def done(self, history: Any) -> bool:
            return False

    with pytest.raises(PluginError, match=r"KeyError: 'tumor'.* liver = 1 and spleen = 2"):
        check_stage(Selects(), tmp_path)


def test_an_option_that_the_core_reads_is_refused(tmp_path: Path) -> None:
    class Taken(Options):
        fit_on: str = ""
        """Taken."""

    class Takes(Identity, Translator[Taken]):
        pass

    with pytest.raises(PluginError, match=r"(?s)Taken has fit_on.*any name but use, fit_on"):
        check_stage(Takes(), tmp_path)
    assert set(TABLES["pseudo_label"].model_fields) == {"use", "rounds", "warm_start", "last"}
    assert {"rounds", "folds", "fit_on", "keep_originals"} < CORE_KEYS


def test_cohorts_hold_every_structure_in_any_shape(tmp_path: Path) -> None:
    trial = Trial(((7, 30, 13), (29, 9, 11), (27, 33, 5)), {"a": 1, "b": 2, "c": 3, "d": 4},
                  (2, 4, 1, 3))  # fmt: skip
    for pair in trial.labeled(tmp_path).pairs():
        assert set(np.unique(pair.labels)) == {0, 1, 2, 3, 4}
        assert set(np.unique(trial.structures(pair.labels))) == {0, 1, 2, 3, 4}


def test_variables_are_put_back_and_new_ones_go() -> None:
    memory = Memory(OnClass)
    assert memory.changed() == []
    OnClass.net, LEARNED["a"] = 0.1, 1.0
    OnClass.more = 1  # type: ignore[attr-defined]
    assert memory.changed() == [
        "`net` of OnClass", "`more` of OnClass", "`LEARNED` of module test_check_stage",
    ]  # fmt: skip
    memory.restore()
    assert (OnClass.net, LEARNED, hasattr(OnClass, "more")) == (1.0, {}, False)
    assert memory.changed() == []


@pytest.mark.parametrize("given", [Translator, Options()])
def test_what_is_no_stage_is_refused(given: object, tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"(Translator|Options): is not a stage\n  allowed: an inst"
    ):
        check_stage(given, tmp_path)  # type: ignore[arg-type]
