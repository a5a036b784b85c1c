"""CycleGAN that looks at labels: what must survive, and where edges must stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crossmod_cyclegan import CycleGAN, CycleGANOptions
from crossmod_cyclegan.lesions import Outliner, edge_loss, outline_loss
from crossmod_cyclegan.slices import Batches, Slice, foreground_slices
from crossmod_cyclegan.train import Trainer, train

from crossmod import Context
from crossmod.testing import CLASSES, check_resume, small_cohort

CTX = Context(Path("nowhere"), classes=CLASSES)
SIZE = {"base_channels": 4, "blocks": 1, "discriminator_channels": 4, "discriminator_layers": 1}


def options(**changes):
    return CycleGANOptions.model_validate({**SIZE, "iterations": 6, "batch_size": 2} | changes)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    labeled = small_cohort(folder / "labeled", labeled=True)
    return labeled, small_cohort(folder / "target", labeled=False, seed=1)


def noted(cohorts, folder, **changes):
    """What is noted in a short training."""
    rows, chosen = [], options(**changes)
    ctx = Context(folder, classes=CLASSES, metric=lambda **values: rows.append(values))
    source = foreground_slices(cohorts[0], labeled=chosen.needs_labels)
    train(source, foreground_slices(cohorts[1]), chosen, ctx)
    return rows


def test_all_is_off_by_default(cohorts, tmp_path):
    assert not options().needs_labels
    assert set(noted(cohorts, tmp_path)[0]) == {
        *("step", "cycle", "adversarial", "identity", "discriminator"),
    }
    assert Trainer(options(), CTX).outliner is None


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({"lesion_weight": 1.0}, {"lesion", "outliner"}),
        ({"edge_weight": 1.0}, {"edge"}),
        ({"lesion_share": 0.5}, set()),
        ({"lesion_weight": 1.0, "edge_weight": 1.0, "identity_weight": 0.0}, {"lesion", "edge"}),
    ],
)
def test_each_option_adds_its_losses(changes, terms, cohorts, tmp_path):
    for row in noted(cohorts, tmp_path, **changes):
        assert terms <= set(row)
        assert all(np.isfinite(value) for value in row.values())


def test_the_generator_feels_lesions_only_after_the_delay():
    """Before that, the small network learns alone."""
    trainer = Trainer(options(lesion_weight=1e4, identity_weight=0.0), CTX)
    trainer.set_rate(1.0)
    images = torch.rand(1, 1, 26, 30), torch.rand(1, 1, 26, 30)
    labels = torch.zeros(1, 26, 30, dtype=torch.uint8)
    labels[:, 5:9, 5:9] = 1
    gradients = []
    for counts in (False, True):
        trainer.lesions_count = counts
        before = [weight.detach().clone() for weight in trainer.outliner.parameters()]
        trainer.step(*images, labels)
        gradients.append(trainer.generators[0].layers[1].weight.grad.abs().max().item())
        after = trainer.outliner.parameters()
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert gradients[1] > 100 * gradients[0]


def test_a_generator_never_moves_the_small_network():
    """Its gradient comes from outlines in slices that the generator cannot change any more."""
    trainer = Trainer(options(lesion_weight=1.0), CTX)
    trainer.set_rate(1.0)
    images = torch.rand(2, 1, 26, 30), torch.rand(2, 1, 26, 30)
    weights = [weight.detach().clone() for weight in trainer.outliner.parameters()]
    trainer._update_generators(*images, torch.zeros(2, 26, 30, dtype=torch.uint8))
    for before, after in zip(weights, trainer.outliner.parameters(), strict=True):
        assert torch.equal(before, after)
        assert after.grad is None


def disc(shape=(40, 36), radius=7):
    i, j = np.indices(shape)
    return ((i - 20) ** 2 + (j - 16) ** 2 <= radius**2).astype(np.uint8)


def test_a_small_network_learns_to_outline():
    labels = torch.from_numpy(disc())[None]
    images = (labels[:, None].float() * 0.5 - 0.2) + 0.1 * torch.randn(1, 1, 40, 36)
    network = Outliner(1, width=4)
    adam = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        loss = outline_loss(network(images), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    found = network(images).argmax(1)
    assert 2 * (found & labels).sum() / (found.sum() + labels.sum()) > 0.9


@pytest.mark.parametrize("shape", [(26, 30), (25, 31), (8, 9)])
def test_slices_of_any_size_can_be_outlined(shape):
    assert Outliner(2, width=4)(torch.rand(1, 1, *shape)).shape == (1, 3, *shape)


def test_structures_that_a_batch_does_not_show_cost_nothing_in_dice():
    """A right outline costs next to nothing, whichever of the classes is there."""
    labels = torch.from_numpy(disc())[None]
    right = torch.stack([1.0 - labels, labels, torch.zeros_like(labels)], dim=1) * 40.0
    assert outline_loss(right, labels) < 1e-3
    empty = torch.zeros_like(labels)
    nothing = torch.stack([empty + 1.0, empty, empty], dim=1) * 40.0
    assert outline_loss(nothing, empty) < 1e-3
    assert outline_loss(nothing, labels) > 0.9


def test_edges_that_stay_cost_nothing_whatever_the_contrast():
    image = torch.from_numpy(disc()).float()[None, None] - 0.5
    assert edge_loss(image, -image, None) == 0
    assert edge_loss(image, image.roll(1, dims=2), None) > 1e-3


def test_a_border_that_moves_costs_more_where_it_is_labeled():
    labels = torch.from_numpy(disc())[None]
    image = labels[:, None].float() - 0.5
    moved = image.roll(1, dims=2)
    assert edge_loss(image, moved, labels) > 2 * edge_loss(image, moved, None)


def numbered(count=8, shape=(12, 10)):
    """Slices, every fourth of which shows a structure, at the pixels that are brightest."""
    slices = []
    for number in range(count):
        image = np.random.default_rng(number).random(shape).astype(np.float16) * np.float16(0.5)
        labels = np.zeros(shape, np.uint8)
        if number % 4 == 0:
            labels[3:6, 2:5] = 1
            image[3:6, 2:5] = 1
        slices.append(Slice(image, str(number), labels))
    return slices


@pytest.mark.parametrize("resize_to", [None, 14])
def test_labels_go_with_their_pixels(resize_to):
    chosen = options(resize_to=resize_to, lesion_share=1.0)
    batches = Batches("source", numbered(), np.array((12, 10)), chosen, CTX)
    for step in range(20):
        batch = batches.batch(step)
        assert batch.labels.shape == (2, 12, 10)
        inside = batch.images[:, 0][batch.labels == 1]
        outside = batch.images[:, 0][batch.labels == 0]
        # Bicubic resizing blurs by a pixel; the nearest label does not.
        assert (inside > 0.9).float().mean() > (0.99 if resize_to is None else 0.4)
        assert (outside > 0.9).float().mean() < (0.01 if resize_to is None else 0.1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.25), (0.5, 0.625), (1.0, 1.0)])
def test_a_share_of_slices_shows_a_structure(share, expected):
    chosen = options(lesion_share=share, edge_weight=1.0)
    batches = Batches("source", numbered(), np.array((12, 10)), chosen, CTX)
    shown = [bool(one.any()) for step in range(300) for one in batches.batch(step).labels]
    # Three standard deviations of 600 draws.
    assert np.mean(shown) == pytest.approx(expected, abs=3 * np.sqrt(0.25 / 600))


def test_a_cohort_whose_slices_show_nothing_can_be_learned(tmp_path):
    slices = [Slice(one.image, one.name, np.zeros_like(one.labels)) for one in numbered()]
    chosen = options(lesion_share=0.5, lesion_weight=1.0)
    batches = Batches("source", slices, np.array((12, 10)), chosen, CTX)
    assert not batches.batch(0).labels.any()


def test_fit_reads_labels_of_the_source_only(cohorts, tmp_path):
    stage = CycleGAN(options(lesion_weight=0.5, lesion_share=0.5, edge_weight=1.0))
    state = stage.fit(*cohorts, Context(tmp_path, classes=CLASSES))
    assert {name.split(".")[0] for name in state} == {"to_target", "to_source"}


LESIONS = {"lesion_weight": 1.0, "edge_weight": 1.0, "lesion_share": 0.5, "lesion_delay": 0.3}


def test_killed_at_any_step_it_ends_with_the_same_bits(cohorts, tmp_path):
    stage = CycleGAN(options(**LESIONS))
    check_resume(lambda ctx: stage.fit(*cohorts, ctx), tmp_path, [1, 2, 5])


def test_it_has_the_same_bits_on_any_number_of_cores(cohorts, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    states = []
    for cores in (1, 4):
        ctx = replace(Context(tmp_path, classes=CLASSES), cores=lambda cores=cores: cores)
        states.append(CycleGAN(options(**LESIONS)).fit(*cohorts, ctx))
    torch.set_num_threads(before)
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[1][name], err_msg=name)
