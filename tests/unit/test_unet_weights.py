"""What the 3D U-Net learns from cases that count less, and from voxels that do not count.

Float32: tolerances are at least ten times what the operations can add up to.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crossmod_unet3d import Augmentation, UNet3D, UNet3DOptions
from crossmod_unet3d.motion import Motion, move
from crossmod_unet3d.sampling import IGNORED, TrainingCases
from crossmod_unet3d.train import deep_loss, dice_and_cross_entropy, weighted_loss

from crossmod import Cohort, Context, Pair, Volume
from crossmod.data.cohorts import CohortWriter

CLASSES = {"tumor": 1, "cochlea": 2}
SHAPE = (20, 16, 12)
ROOM = {"cpu": 1e9}
TINY = {"base_channels": 2, "max_channels": 4, "patch": (16, 16, 8), "iterations": 2}
ALL_ALIKE = torch.ones(3)


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(3, 3, 6, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 3, (3, 6, 5, 4), generator=generator, dtype=torch.uint8)


def written(folder: Path, ignored: slice | None = None, weight: float = 1.0) -> Cohort:
    """Two cases with a bright tumor; the second has a weight and ignores some planes of it."""
    writer, rng = CohortWriter(folder, CLASSES), np.random.default_rng(0)
    for number in range(2):
        image, labels = rng.random(SHAPE, dtype=np.float32), np.zeros(SHAPE, np.uint8)
        labels[4:12, 4:10, 3:9] = 1
        image[labels == 1] += 1
        ignore = None
        if number and ignored:
            ignore = np.zeros(SHAPE, bool)
            ignore[ignored] = True
        volume = Volume.of(image[None], np.eye(4), case=f"c{number}")
        writer.add_pair(Pair(volume, labels, f"c{number}", weight if number else 1.0, ignore))
    return writer.close()


def cases_of(cohort: Cohort) -> TrainingCases:
    return TrainingCases(cohort, ROOM, np.random.default_rng(0))


@pytest.mark.parametrize("batch_dice", [False, True])
def test_patches_that_count_alike_have_the_usual_loss(
    scores: torch.Tensor, labels: torch.Tensor, batch_dice: bool
) -> None:
    usual = dice_and_cross_entropy(scores, labels, batch_dice=batch_dice)
    found = weighted_loss(scores, labels, ALL_ALIKE, batch_dice=batch_dice)
    torch.testing.assert_close(found, usual, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_add_nothing(
    scores: torch.Tensor, labels: torch.Tensor, batch_dice: bool
) -> None:
    labels[:, 2:4] = IGNORED
    other = scores.clone().requires_grad_()
    scores[:, :, 2:4] += 3  # whatever the network says there
    here = weighted_loss(scores, labels, ALL_ALIKE, batch_dice=batch_dice)
    there = weighted_loss(other, labels, ALL_ALIKE, batch_dice=batch_dice)
    torch.testing.assert_close(here, there.detach(), rtol=0, atol=1e-6)
    [slope] = torch.autograd.grad(there, [other])
    assert not slope[:, :, 2:4].any()
    assert slope[:, :, :2].any()


def test_the_rest_of_a_patch_counts_as_if_the_ignored_part_were_not_there(
    scores: torch.Tensor, labels: torch.Tensor
) -> None:
    rest = weighted_loss(scores[:, :, :3], labels[:, :3], ALL_ALIKE, batch_dice=False)
    labels[:, 3:] = IGNORED
    found = weighted_loss(scores, labels, ALL_ALIKE, batch_dice=False)
    torch.testing.assert_close(found, rest, rtol=0, atol=1e-5)


def test_a_patch_counts_by_its_weight(scores: torch.Tensor, labels: torch.Tensor) -> None:
    weights = torch.tensor([1.0, 0.5, 0.1])
    each = [
        dice_and_cross_entropy(scores[n : n + 1], labels[n : n + 1], batch_dice=False)
        for n in range(3)
    ]
    expected = (each[0] + 0.5 * each[1] + 0.1 * each[2]) / 3
    found = deep_loss([scores], labels, [(1, 1, 1)], batch_dice=False, weights=weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_patch_of_which_nothing_counts_has_a_finite_loss(
    scores: torch.Tensor, labels: torch.Tensor
) -> None:
    labels[:] = IGNORED
    assert torch.isfinite(weighted_loss(scores, labels, ALL_ALIKE, batch_dice=False))


def test_patches_are_not_centered_on_ignored_voxels(tmp_path: Path) -> None:
    cases = cases_of(written(tmp_path, slice(4, 8)))
    assert cases.voxels[0][1][:, 0].min() == 4
    assert cases.voxels[1][1][:, 0].min() == 8
    assert IGNORED not in cases.voxels[1]
    assert cases.weights == [1.0, 1.0]
    assert cases_of(written(tmp_path / "plain")).weights is None


def test_ignored_voxels_move_with_their_patch(tmp_path: Path) -> None:
    case = cases_of(written(tmp_path, slice(4, 8)))[1]
    half_turn = Motion((0.0, 0.0, 180.0), 1.0, None)
    middle = np.array(SHAPE) // 2
    _, labels = move(case, middle, SHAPE, (1.0, 1.0, 1.0), half_turn, "cpu")
    turned = labels.flip((0, 1))
    assert (turned[4:8] == IGNORED).all()
    assert not (turned[9:] == IGNORED).any()
    assert (turned[9:12, 4:10, 3:9] == 1).all()


def learned(cohort: Cohort, folder: Path) -> dict[str, np.ndarray]:
    options = UNet3DOptions(**TINY, augmentation=Augmentation(rotation=1.0))
    ctx = Context(folder, classes=CLASSES)
    return dict(UNet3D(options).fit(cohort, cohort.only(lambda case: False), ctx))


def test_weights_and_masks_change_what_is_learned_and_their_absence_nothing(
    tmp_path: Path,
) -> None:
    plain = written(tmp_path / "plain")
    masked = written(tmp_path / "masked", slice(0, 10))
    light = written(tmp_path / "light", None, 0.2)
    same = replace(light, cases=tuple(replace(case, weight=1.0) for case in light.cases))
    usual = learned(plain, tmp_path)
    for name, array in learned(same, tmp_path).items():
        np.testing.assert_array_equal(array, usual[name])
    for changed in (masked, light):
        found = learned(changed, tmp_path)
        assert any((array != usual[name]).any() for name, array in found.items())


def test_a_wrong_label_that_is_ignored_is_not_learned(tmp_path: Path) -> None:
    """What lies under the mask has no influence at all."""
    right = written(tmp_path / "right", slice(4, 8))
    wrong = written(tmp_path / "wrong", slice(4, 8))
    pair = wrong.cases[1].pair()
    pair.labels[4:8] = 2
    writer = CohortWriter(tmp_path / "again", CLASSES)
    writer.cases = [wrong.cases[0]]
    writer.add_pair(pair)
    other = replace(wrong, cases=tuple(writer.cases))
    expected, found = learned(right, tmp_path), learned(other, tmp_path)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
