"""CUT: the authors' networks, loss and schedule; the contract; resumed training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crossmod_cut import CUT, CUTOptions
from crossmod_cut.networks import Discriminator, Doubling, Halving, Projector, generator_of
from crossmod_cut.train import Schedule, Trainer, patch_nce

from crossmod import Context
from crossmod.testing import check_resume, check_stage, small_cohort

TINY: dict[str, Any] = {
    "base_channels": 4,
    "blocks": 2,
    "downsamplings": 1,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
    "patches": 16,
    "features": 8,
    "iterations": 2,
}


@pytest.fixture(autouse=True)
def _two_threads_would_stall() -> None:
    torch.set_num_threads(1)


def test_the_plugin_keeps_the_contract(tmp_path: Path) -> None:
    check_stage(CUT(CUTOptions(**TINY)), tmp_path)


def test_fastcut_resumes_to_the_same_bits(tmp_path: Path) -> None:
    source = small_cohort(tmp_path / "source", labeled=True, cases=1)
    target = small_cohort(tmp_path / "target", labeled=False, cases=1, seed=1)
    stage = CUT(CUTOptions(**TINY | {"mode": "fastcut", "iterations": 3}))
    check_resume(lambda ctx: stage.fit(source, target, ctx), tmp_path / "resume", [2])


def test_the_networks_are_as_large_as_the_authors() -> None:
    with torch.device("meta"):
        generator, judge = generator_of(CUTOptions()), Discriminator(64, 3)
    # One channel in place of three: 2 * 64 * 49 weights less on either side.
    assert sum(one.numel() for one in generator.parameters()) == 11_365_633
    assert sum(one.numel() for one in judge.parameters()) == 2_762_689
    assert [channels for _, channels in generator.tapped] == [1, 128, 256, 256, 256]


@pytest.mark.parametrize("shape", [(24, 32), (25, 31)])
def test_a_slice_of_any_shape_keeps_it(shape: tuple[int, int]) -> None:
    generator = generator_of(CUTOptions(**TINY | {"downsamplings": 2}))
    with torch.no_grad():
        assert generator(torch.zeros(1, 1, *shape)).shape == (1, 1, *shape)
    assert len(generator.encode(torch.zeros(1, 1, *shape))) == len(generator.tapped)


def test_resolution_changes_keep_gray_and_center_of_a_slice() -> None:
    gray = torch.full((1, 2, 6, 8), 0.3)
    for layer in (Halving(), Doubling()):
        found = layer(gray)
        # Binomial weights are exact in binary, sums of 16 products of fp32 are not.
        torch.testing.assert_close(found, torch.full_like(found, 0.3), rtol=1e-5, atol=0)
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    assert (16 * Halving()(dot))[0, 0, 2, 2] == 4
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    doubled = Doubling()(ramp)[0, 0, 8, 4:12]
    torch.testing.assert_close(doubled, torch.arange(8.0) / 2 + 1.75, rtol=1e-5, atol=1e-5)


def test_the_contrast_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    asked, known = (_unit(rng.normal(size=(2, 5, 3))) for _ in range(2))
    terms = []
    for one, other in zip(asked, known, strict=True):
        for place in range(5):
            shares = np.exp(other @ one[place] / 0.07)
            terms.append(-np.log(shares[place] / shares.sum()))
    found = patch_nce(torch.from_numpy(asked), torch.from_numpy(known), 0.07)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-9)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths


def test_vectors_have_length_one_and_belong_to_their_places() -> None:
    projector = Projector([3], 4)
    features = torch.rand(2, 3, 4, 5)
    [both] = projector([features], [torch.tensor([7, 2])])
    [one] = projector([features], [torch.tensor([2])])
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(2, 2))
    torch.testing.assert_close(both[:, 1:], one)


def test_the_schedules_are_the_authors() -> None:
    cut, fast = (Schedule(10, CUTOptions(mode=mode)) for mode in ("cut", "fastcut"))
    assert (cut.total, fast.total) == (4000, 2000)
    assert [cut.factor(step) for step in (0, 1999, 2000)] == [1, 1, 1 - 1 / 201]
    assert cut.factor(3999) == pytest.approx(1 / 201)
    assert Schedule(10, CUTOptions(iterations=7)).total == 7
    assert Schedule(10, CUTOptions(epochs=1, decay_epochs=0)).total == 10


@pytest.mark.parametrize(("mode", "terms"), [("cut", 4), ("fastcut", 3)])
def test_a_step_changes_all_three_networks(mode: str, terms: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = Trainer(CUTOptions(**TINY | {"mode": mode}), Context(tmp_path))
    trainer.set_rate(1.0)
    before = [one.detach().clone() for one in trainer.networks.parameters()]
    images = torch.rand(2, 2, 1, 20, 24) * 2 - 1
    losses = trainer.step(*images, np.random.default_rng(0))
    assert len(losses) == terms
    assert all(0 < loss.item() < float("inf") for loss in losses.values())
    for network in trainer.networks:
        ours = {id(one) for one in network.parameters()}
        pairs = zip(before, trainer.networks.parameters(), strict=True)
        assert any(id(new) in ours and not torch.equal(old, new) for old, new in pairs)
