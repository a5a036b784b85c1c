"""The plugin repaint, and what the core asks of a translator that looks at labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crossmod_repaint import Repaint, RepaintOptions
from pydantic import ValidationError
from scipy import ndimage

from crossmod import Context, Pair, PairTranslator, PluginError, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.stages import contract

CLASSES = {"tumor": 1, "cochlea": 2}
CONTEXT = Context(Path("unused"), classes=CLASSES)


MEAN, AROUND = 0.8, 0.2


def pair_of(case="a", mean=MEAN, around=AROUND, texture=0.0):
    """A tumor of 6 voxels, blurred as a scanner does it, and a cochlea in a corner."""
    labels = np.zeros((16, 16, 12), np.uint8)
    labels[5:11, 5:11, 3:9] = 1
    share = ndimage.gaussian_filter((labels == 1).astype(np.float64), 0.5, truncate=3)
    data = around + share * (mean - around)
    core = ndimage.binary_erosion(labels == 1, iterations=2)
    data[core] += texture * (np.arange(core.sum()) % 2 - 0.5)
    labels[14, 14, 1:3] = 2
    data[labels == 2] = 0.5
    return Pair(Volume.of(data[None].astype(np.float32), np.eye(4), case=case), labels, case)


def inner(pair, label=1):
    """Voxels that blur has not reached."""
    mask = pair.labels == label
    return ndimage.binary_erosion(mask, iterations=2) if label == 1 else mask


def repainted(pairs, **structures):
    tables = [{"structure": name, **table} for name, table in structures.items()]
    stage = Repaint(RepaintOptions.model_validate({"structures": tables}))
    return list(stage.translate_pairs(pairs, {}, CONTEXT))


@pytest.mark.parametrize(("mean", "around"), [(0.8, 0.2), (0.2, 0.8), (0.9, 0.5)])
@pytest.mark.parametrize("wanted", [0.1, 0.5, 1.0])
def test_a_structure_changes_as_if_the_scanner_had_seen_it_so(mean, around, wanted):
    """Voxels at the border change by the share they hold, inside and outside of the label."""
    [found] = repainted([pair_of(mean=mean, around=around)], tumor={"means": [wanted]})
    expected = pair_of(mean=wanted, around=around)
    assert found.case == "a"
    # The mean of the core holds a little of the blur, and so do the surroundings.
    np.testing.assert_allclose(found.image.data, expected.image.data, atol=0.04)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_what_is_far_and_other_structures_stay():
    given = pair_of()
    [found] = repainted([given], tumor={"means": [0.3]})
    near = ndimage.binary_dilation(given.labels == 1, iterations=2)
    np.testing.assert_array_equal(found.image.data[0][~near], given.image.data[0][~near])
    given.labels[11, 5:11, 3:9] = 2
    [found] = repainted([given], tumor={"means": [0.3]})
    other = given.labels == 2
    np.testing.assert_array_equal(found.image.data[0][other], given.image.data[0][other])


def test_a_structure_that_cannot_be_seen_is_painted_by_its_label():
    [found] = repainted([pair_of(mean=0.5, around=0.5)], tumor={"means": [0.9]})
    expected = pair_of(mean=0.9, around=0.5)
    np.testing.assert_allclose(found.image.data, expected.image.data, atol=0.02)


def test_texture_scales_what_differs_inside():
    whole, none = (
        repainted([pair_of(texture=0.1)], tumor={"means": [0.4], "texture": share})[0]
        for share in (1.0, 0.0)
    )
    core = inner(whole)
    assert none.image.data[0][core].std() == pytest.approx(0, abs=1e-6)
    # relative to the mean: 0.05 at 0.8 is 0.025 at 0.4
    assert whole.image.data[0][core].std() == pytest.approx(0.025, rel=0.02)


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.1])
def test_noise_of_a_dark_structure_does_not_grow(mean):
    [found] = repainted([pair_of(mean=mean, texture=0.02)], tumor={"means": [0.6]})
    values = found.image.data[0][inner(found)]
    assert values.mean() == pytest.approx(0.6, abs=0.03)
    assert values.std() < 0.02


def test_each_value_makes_a_translation_and_short_lists_start_again():
    found = repainted(
        [pair_of("a"), pair_of("b")],
        tumor={"means": [0.2, 0.4, 0.6]},
        cochlea={"means": [0.9, 0.1]},
    )
    assert [pair.case for pair in found] == [
        *("a", "a+paint-2", "a+paint-3"),
        *("b", "b+paint-2", "b+paint-3"),
    ]
    means = [[pair.image.data[0][inner(pair, n)].mean() for n in (1, 2)] for pair in found[:3]]
    np.testing.assert_allclose(means, [[0.2, 0.9], [0.4, 0.1], [0.6, 0.9]], atol=0.01)
    assert {pair.patient for pair in found[:3]} == {"a"}


def test_a_case_without_the_structure_stays_as_it_is():
    given = pair_of()
    given.labels[:] = 0
    [found] = repainted([given], tumor={"means": [0.3]})
    np.testing.assert_array_equal(found.image.data, given.image.data)


@pytest.mark.parametrize(
    "tables", [[], [{"means": []}], [{"means": [1.5]}], [{"means": [0.1]}, {"means": [0.2]}]]
)
def test_senseless_options_are_refused(tables):
    with pytest.raises(ValidationError):
        RepaintOptions.model_validate({"structures": tables})


def test_images_without_labels_are_refused():
    stage = Repaint(RepaintOptions.model_validate({"structures": [{"means": [0.3]}]}))
    with pytest.raises(PluginError, match="translates labeled images only"):
        stage.translate([pair_of().image], {}, CONTEXT)


@pytest.fixture
def given(tmp_path):
    writer = CohortWriter(tmp_path, CLASSES)
    for case in ("a", "a+x", "b"):
        writer.add_pair(pair_of(case))
    return {case.case: case for case in writer.close().cases}


def checked(given, yielded):
    return [pair.case for pair in contract.pair_translations(given, yielded, CLASSES, "p")]


def test_translations_of_pairs_may_be_several_and_of_copies(given):
    pairs = [case.pair() for case in given.values()]
    copies = [pair.copy_as("y", pair.image.data) for pair in pairs]
    assert checked(given, pairs + copies) == ["a", "a+x", "b", "a+y", "a+x+y", "b+y"]


def relabeled(pair):
    labels = pair.labels.copy()
    labels[0] = 1
    return Pair(pair.image, labels, pair.patient)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: pairs[:-1], "case b: yielded nothing for this case"),
        (lambda pairs: [*pairs, pairs[0]], "case a: was yielded twice"),
        (lambda pairs: [*pairs[:-1], relabeled(pairs[-1])], "case b: changed the labels"),
        (lambda pairs: [pairs[0].with_data(pairs[0].image.data * 3)], "case a: yielded values in"),
        (lambda pairs: [pair_of("c+x")], r"case c\+x: is not a translation of a given case"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, given):
    with pytest.raises(PluginError, match=message):
        checked(given, change([case.pair() for case in given.values()]))


def test_a_pair_translator_need_not_write_translate():
    assert not {"translate"} & getattr(PairTranslator, "__abstractmethods__", set())
