"""Every built-in training, killed at every step, ends as if nothing had happened."""

from __future__ import annotations

import json
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_stages
import torch
from crossmod_cyclegan import CycleGAN
from crossmod_singan_gba import SinganGba
from crossmod_unet3d import UNet3D
from safetensors.torch import load_file

from crossmod import Context, CrossmodError
from crossmod.store.checkpoints import Checkpoints
from crossmod.testing import CLASSES, Watched, check_resume

STEPS = range(1, 11)
TRAINERS = list(tiny_stages.OPTIONS)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    return tiny_stages.cohorts_in(tmp_path_factory.mktemp("cohorts"))


def fit_of(trainer, cohorts, **changes):
    return lambda ctx: tiny_stages.learned(tiny_stages.tiny(trainer, **changes), cohorts, ctx)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_killed_at_any_step_it_ends_with_the_same_bits(trainer, cohorts, tmp_path, monkeypatch):
    monkeypatch.setattr("crossmod_cyclegan.train.REPORTS", 4)  # the mean losses of two steps each
    check_resume(fit_of(trainer, cohorts), tmp_path, STEPS)


def test_in_fp16_the_scale_of_the_loss_is_resumed(cohorts, tmp_path):
    """The scale halves where a gradient overflows, so that it is part of the state."""
    fit, states = fit_of(UNet3D, cohorts), []

    def in_fp16(ctx):
        states.append(fit(replace(ctx, precision="fp16")))
        return states[-1]

    check_resume(in_fp16, tmp_path, [1, 5, 9])
    started = fit_of(UNet3D, cohorts, learning_rate=0.0)(Context(tmp_path, seed=7, classes=CLASSES))
    weight = "network.input_block.conv1.conv.weight"
    assert np.abs(states[0][weight] - started[weight]).max() > 1e-4


def test_losses_and_pictures_are_among_what_is_compared(cohorts, tmp_path):
    """What `check_resume` compares is there, and a training has as many steps as are killed."""
    for trainer in TRAINERS:
        watched = Watched(tmp_path / trainer.__name__)
        watched.work.mkdir(parents=True)
        notes = []
        ctx = Context(
            watched.work,
            seed=7,
            classes=CLASSES,
            checkpoints=watched,
            metric=lambda notes=notes, **values: notes.append(values),
        )
        fit_of(trainer, cohorts)(ctx)
        assert (watched.began, watched.total) == (0, STEPS[-1])
        assert any(np.isfinite(list(note.values())).all() for note in notes)
        assert trainer is UNet3D or list(watched.work.glob("panels/*.png"))


class TwoOfEachPhase(Checkpoints):
    """Does what is needed to estimate a cost."""

    def __init__(self, folder):
        super().__init__(folder / "checkpoints", folder, minutes=1e9)
        self.done = []

    def steps(self, start, total, phase):
        length = phase or total
        for first in range(start, total, length):
            for step in range(first, min(first + 2, total)):
                self.done.append(step)
                yield step


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_training_can_skip_to_the_next_phase(trainer, cohorts, tmp_path):
    few = TwoOfEachPhase(tmp_path)
    state = fit_of(trainer, cohorts)(Context(tmp_path, classes=CLASSES, checkpoints=few))
    assert few.done == ([0, 1, 5, 6] if trainer is SinganGba else [0, 1])
    assert all(np.isfinite(array).all() for array in state.values())


STEP_OF = {
    CycleGAN: "crossmod_cyclegan.train.Trainer.step",
    SinganGba: "crossmod_singan_gba.train.ScaleTrainer.step",
    UNet3D: "crossmod_unet3d.train.differentiate",
}
NAMED = {
    CycleGAN: r"step 7, case-\d slice \d+, case-\d slice \d+: ",
    SinganGba: r"step 2 of scale 1, case-\d slice \d+: ",
    UNet3D: r"step 7, cases case-\d, case-\d: ",
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_loss_that_is_no_number_ends_the_training(trainer, cohorts, tmp_path, monkeypatch):
    original, calls = pkgutil.resolve_name(STEP_OF[trainer]), []

    def poisoned(*arguments):
        calls.append(arguments)
        losses = original(*arguments)
        if len(calls) != 7:
            return losses
        nan = torch.tensor(float("nan"))
        return losses * nan if isinstance(losses, torch.Tensor) else {**losses, "cycle": nan}

    monkeypatch.setattr(STEP_OF[trainer], poisoned)
    watched = Watched(tmp_path)
    watched.work.mkdir()
    ctx = Context(watched.work, classes=CLASSES, checkpoints=watched)
    with pytest.raises(CrossmodError, match=NAMED[trainer]) as error:
        fit_of(trainer, cohorts)(ctx)
    assert "is nan" in str(error.value)
    saved = watched.newest()
    assert saved.step == 6
    weights = load_file(saved.folder / "weights.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert json.loads((saved.folder / "about.json").read_text())["total"] == STEPS[-1]
