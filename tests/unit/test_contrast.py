"""Random contrasts of training patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crossmod_unet3d import Augmentation
from crossmod_unet3d.contrast import POINTS, _curve, restyle

SHAPE = (16, 14, 10)


def patch(seed=0):
    """A dark background, a structure that is brighter, and another one."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 3:9, 3:7], labels[11:14, 10:13, 3:7] = 1, 2
    image = rng.normal(-0.5, 0.2, SHAPE) + 2.0 * (labels == 1) + 1.0 * (labels == 2)
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(labels)


def styled(seed=0, **chances):
    image, labels = patch()
    off = dict.fromkeys(Augmentation.model_fields, 0.0)
    chosen = Augmentation(**{**off, **chances})
    return image, labels, restyle(image, labels, 2, chosen, np.random.default_rng(seed))


KINDS = ["class_contrast", "random_convolution"]


def test_both_are_off_by_default_and_draw_nothing():
    image, labels = patch()
    rng = np.random.default_rng(0)
    assert restyle(image, labels, 2, Augmentation(), rng) is image
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_changes_and_depends_on_its_seed_alone(kind):
    image, _, first = styled(seed=1, **{kind: 1.0})
    _, _, again = styled(seed=1, **{kind: 1.0})
    _, _, other = styled(seed=2, **{kind: 1.0})
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.05)
    assert not torch.allclose(first, image, atol=0.05)
    assert torch.equal(image, patch()[0])  # what was given stays
    assert first.isfinite().all()


def test_a_random_convolution_keeps_the_norm():
    for seed in range(20):
        image, _, found = styled(seed=seed, random_convolution=1.0)
        assert torch.linalg.vector_norm(found) == pytest.approx(
            float(torch.linalg.vector_norm(image)), rel=1e-5
        )


def test_contrasts_of_classes_are_exchanged_now_and_then():
    """Bright structures become darker than the background in some, brighter in others."""
    signs = set()
    for seed in range(40):
        _, labels, found = styled(seed=seed, class_contrast=1.0)
        signs.add(bool(found[labels == 1].mean() > found[labels == 0].mean()))
    assert signs == {True, False}


def test_class_contrast_stays_in_the_range_of_the_patch():
    for seed in range(40):
        image, _, found = styled(seed=seed, class_contrast=1.0)
        assert found.min() >= image.min() - 1e-5
        assert found.max() <= image.max() + 1e-5


def test_what_is_ignored_gets_the_contrast_of_the_background():
    image, labels = patch()
    unsure = (labels == 0) & (torch.rand(labels.shape) < 0.5)
    masked = torch.where(unsure, torch.tensor(255, dtype=torch.uint8), labels)
    chosen = Augmentation(class_contrast=1.0)
    whole, part = (
        restyle(image, one, 2, chosen, np.random.default_rng(3)) for one in (labels, masked)
    )
    assert torch.equal(whole, part)


def test_what_is_darkest_stays_dark():
    """Air has no contrast."""
    image, labels = patch()
    image[:, :2] = image.min()
    chosen = Augmentation(class_contrast=1.0)
    found = restyle(image, labels, 2, chosen, np.random.default_rng(3))
    assert torch.allclose(found[:, :2], image[:, :2], atol=1e-5)


def test_a_patch_of_one_value_has_no_contrast_to_change():
    image, labels = torch.full(SHAPE, 0.3), torch.zeros(SHAPE, dtype=torch.uint8)
    for kind in KINDS:
        chosen = Augmentation(**{kind: 1.0})
        assert restyle(image, labels, 2, chosen, np.random.default_rng(0)).isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_rising_curves_rise_and_all_go_from_end_to_end(seed):
    rising, falling = (_curve(np.random.default_rng(seed), way) for way in (False, True))
    assert rising.shape == falling.shape == (POINTS,)
    assert (np.diff(rising) >= 0).all()
    assert (rising[0], rising[-1]) == pytest.approx((0, 1), abs=1e-6)
    assert (falling[0], falling[-1]) == pytest.approx((1, 0), abs=1e-6)
