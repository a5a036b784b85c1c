import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crossmod_naive_rescale import NaiveRescale, NaiveRescaleOptions
from pydantic import ValidationError

from crossmod import Context, DataError, Pair, RecipeError, Volume

AFFINE = np.diag([0.6, 0.6, 1.0, 1.0])


def pair(case="ldn_1", value=0.4, size=4, center="ldn"):
    data = np.full((1, 12, 12, 6), 0.2, np.float32)
    labels = np.zeros((12, 12, 6), np.uint8)
    labels[2 : 2 + size, 3 : 3 + size, 1:4] = 1
    labels[9, 9, 4] = 2
    data[0][labels == 1] = value
    return Pair(Volume.of(data, AFFINE, case=case, center=center), labels, f"patient of {case}")


def stage(*groups, structure="tumor"):
    return NaiveRescale(NaiveRescaleOptions(structure=structure, groups=list(groups)))


def augment(stage, *pairs, log=lambda text: None):
    return list(stage.augment(pairs, {}, Context(Path(), log=log)))


def test_equation_5():
    original = pair()
    (new,) = augment(stage({"name": "all", "factors": [0.5]}), original)
    x, y = original.image.data, (original.labels == 1)[np.newaxis]
    np.testing.assert_allclose(new.image.data, x * (1 - y) + 0.5 * x * y, rtol=1e-6)
    assert new.image.data.dtype == np.float32


def test_keeps_labels_geometry_and_patient_and_names_the_copy():
    original = pair()
    before = original.image.data.copy()
    new = augment(stage({"name": "all", "factors": [0.75, 1.5]}), original)
    assert [p.case for p in new] == ["ldn_1+all-x0.75", "ldn_1+all-x1.5"]
    for p in new:
        assert p.patient == original.patient
        assert p.center == "ldn"
        np.testing.assert_array_equal(p.labels, original.labels)
        np.testing.assert_array_equal(p.image.affine, AFFINE)
    np.testing.assert_array_equal(original.image.data, before)


def test_clips_at_1():
    (new,) = augment(stage({"name": "all", "factors": [4]}), pair(value=0.5))
    assert new.image.data.max() == 1


def test_a_pair_in_two_groups_is_copied_for_both_and_others_not_at_all():
    volume = 4 * 4 * 3 * 0.36
    groups = [
        {"name": "etz", "where": {"center": "etz"}, "factors": [2]},
        {"name": "small", "where": {"volume_mm3": {"below": volume + 1}}, "factors": [0.5, 0.8]},
    ]
    cases = [pair("a", center="etz"), pair("b"), pair("c", size=6)]
    new = augment(stage(*groups), *cases)
    assert [p.case for p in new] == [
        "a+etz-x2",
        "a+small-x0.5",
        "a+small-x0.8",
        "b+small-x0.5",
        "b+small-x0.8",
    ]


def test_says_how_many_cases_each_group_matched():
    groups = [
        {"name": "all", "factors": [0.5, 2]},
        {"name": "etz", "where": {"center": "etz"}, "factors": [2]},
        {"name": "none", "where": {"volume_mm3": {"below": 1}}, "factors": [2]},
    ]
    lines = []
    assert len(augment(stage(*groups), pair("a", center="etz"), pair("b"), log=lines.append)) == 5
    assert lines[:2] == ["group 'all' matched 2 of 2 cases", "group 'etz' matched 1 of 2 cases"]
    assert lines[2].startswith("warning: group 'none' matched none of 2 cases")


def test_other_structure():
    (new,) = augment(stage({"name": "all", "factors": [3]}, structure="cochlea"), pair())
    changed = new.image.data[0] != pair().image.data[0]
    assert changed.sum() == 1
    assert changed[9, 9, 4]


@pytest.mark.parametrize("value", [-0.1, 1.2])
def test_refuses_images_outside_0_1(value):
    with pytest.raises(DataError, match="intensities run from"):
        augment(stage({"name": "all", "factors": [2]}), pair(value=value))


def test_unknown_structure():
    with pytest.raises(RecipeError, match="no class 'tumour'") as error:
        augment(stage({"name": "all", "factors": [2]}, structure="tumour"), pair())
    assert error.value.allowed == "tumor, cochlea"


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [{"name": "a", "factors": []}],
        [{"name": "a", "factors": [0]}],
        [{"name": "a", "factors": [-1]}],
        [{"name": "a", "factors": [0.5, 0.5]}],
        [{"name": "a/b", "factors": [0.5]}],
        [{"name": "a", "factors": [0.5]}, {"name": "a", "factors": [0.6]}],
    ],
)
def test_refused_options(groups):
    with pytest.raises(ValidationError):
        NaiveRescaleOptions(groups=groups)


def test_imports_no_torch():
    code = "import sys, crossmod_naive_rescale; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_means_bring_every_lesion_to_the_same_intensity():
    new = augment(stage({"name": "all", "means": [0.3, 0.6]}), pair("a", 0.4), pair("b", 0.8))
    assert [p.case for p in new] == ["a+all-m0.3", "a+all-m0.6", "b+all-m0.3", "b+all-m0.6"]
    means = [p.image.data[0][p.labels == 1].mean() for p in new]
    np.testing.assert_allclose(means, [0.3, 0.6, 0.3, 0.6], rtol=1e-5)


def test_texture_is_kept_in_part_around_the_same_mean():
    original = pair(value=0.4)
    inside = original.labels == 1
    rng = np.random.default_rng(0)
    original.image.data[0][inside] += rng.normal(0, 0.05, inside.sum()).astype(np.float32)
    groups = [{"name": f"t{t}", "means": [0.3], "texture": t / 4} for t in (4, 2, 0)]
    whole, half, flat = (p.image.data[0][inside] for p in augment(stage(*groups), original))
    np.testing.assert_allclose([whole.mean(), half.mean(), flat.mean()], 0.3, rtol=1e-4)
    np.testing.assert_allclose(half.std(), whole.std() / 2, rtol=1e-3)
    assert flat.std() < 1e-6
