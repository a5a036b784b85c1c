from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crossmod import Case, Pair, PluginError, Prediction, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.stages import contract

CLASSES = {"tumor": 1}
SHAPE = (1, 4, 5, 6)


def volume(case: str = "a", fill: float = 0.5) -> Volume:
    return Volume.of(np.full(SHAPE, fill, np.float32), np.eye(4), case=case, center="ldn")


def moved(one: Volume) -> Volume:
    affine = one.affine.copy()
    affine[0, 3] += 1
    return Volume.of(one.data, affine, case=one.case)


BROKEN_TRANSLATIONS: dict[str, tuple[Callable[[Volume], Volume], str]] = {
    "shape": (lambda v: v.with_data(v.data[:, 1:]), r"yielded shape \(1, 3, 5, 6\)"),
    "affine": (moved, "changed the affine"),
    "nan": (lambda v: v.with_data(v.data * np.nan), "120 values that are NaN"),
    "range": (lambda v: v.with_data(v.data * 3), r"yielded values in \[1.5, 1.5\]"),
    "case": (lambda v: volume("z"), "yielded case 'z'"),
}


@pytest.mark.parametrize("name", BROKEN_TRANSLATIONS)
def test_a_broken_translation_names_plugin_and_case(name: str) -> None:
    change, words = BROKEN_TRANSLATIONS[name]
    given = [volume("a"), volume("b")]
    with pytest.raises(PluginError, match=words) as caught:
        list(contract.translations(given, (change(one) for one in given), "plugin 'p'"))
    assert "plugin 'p', case a" in str(caught.value)


def test_a_translator_yields_one_volume_for_each() -> None:
    given = [volume("a"), volume("b")]
    assert len(list(contract.translations(given, iter(given), "p"))) == 2
    with pytest.raises(PluginError, match="yielded nothing for this case"):
        list(contract.translations(given, iter(given[:1]), "p"))
    with pytest.raises(PluginError, match="more results than volumes"):
        list(contract.translations(given[:1], iter(given), "p"))


def cohort(folder: Path) -> dict[str, Case]:
    writer = CohortWriter(folder, CLASSES)
    writer.add(volume("a"), labels=np.ones(SHAPE[1:], np.uint8))
    return {case.case: case for case in writer.close().cases}


def pair(case: str = "a", label: int = 1) -> Pair:
    return Pair(volume(case), np.full(SHAPE[1:], label, np.uint8), "a")


def test_copies_need_an_original_and_a_name_of_their_own(tmp_path: Path) -> None:
    given = cohort(tmp_path)
    good = pair().copy_as("x2", volume().data)
    assert len(list(contract.copies(given, [good], CLASSES, "p"))) == 1
    for broken, words in [
        ([pair()], "is not a copy of a given case"),
        ([pair("b").copy_as("x2", volume().data)], "is not a copy of a given case"),
        ([good, good], "was yielded twice"),
        ([pair(label=7).copy_as("x2", volume().data)], r"yielded labels \[7\]"),
    ]:
        with pytest.raises(PluginError, match=words):
            list(contract.copies(given, broken, CLASSES, "p"))


def test_pseudo_labels_belong_to_given_images(tmp_path: Path) -> None:
    given = cohort(tmp_path)
    assert len(list(contract.selections(given, [pair()], CLASSES, "p"))) == 1
    with pytest.raises(PluginError, match="was not among the predictions"):
        list(contract.selections(given, [pair("b")], CLASSES, "p"))


def test_predictions_have_a_channel_for_each_class() -> None:
    good = np.full((2, *SHAPE[1:]), 0.5, np.float32)
    found = contract.predictions([volume()], [Prediction(volume(), good)], CLASSES, "p")
    assert len(list(found)) == 1
    wrong = Prediction(volume(), np.concatenate([good, good[:1]]))
    with pytest.raises(PluginError, match=r"shape \(3, 4, 5, 6\)"):
        list(contract.predictions([volume()], [wrong], CLASSES, "p"))
