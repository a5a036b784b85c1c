"""The switch between a function and its compiled form: it measures, says so, and keeps promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_stages
import torch
import torch._inductor.config
from crossmod_cyclegan import CycleGAN
from crossmod_cyclegan.train import Trainer
from crossmod_unet3d import UNet3DOptions
from crossmod_unet3d.networks import build
from crossmod_unet3d.plan import make_plan

from crossmod import Context
from crossmod.torch import compiled_if_faster, compiling
from crossmod.torch.compiling import TIMED, WARM, Trial, as_written, compile_in_place

STEPS = 2 * (WARM + TIMED)


class Device:
    """A clock, and two forms of a function that take time on a device after they return."""

    def __init__(self, plain: float, compiled: float) -> None:
        self.now = self.owed = 0.0
        self.called: list[str] = []
        self.said: list[str] = []
        forms = self.form("plain", plain), self.form("compiled", compiled)
        self.trial = Trial(*forms, self.finish, self.said.append, lambda: self.now)

    def form(self, name, seconds):
        def work(number):
            warming = name not in self.called
            self.called.append(name)
            self.owed += 60 if warming else seconds
            return number + 1

        return work

    def finish(self):
        self.now, self.owed = self.now + self.owed, 0.0


@pytest.mark.parametrize(
    ("plain", "compiled", "kept", "said"),
    [
        (0.098, 0.0612, "compiled", "takes 61 ms instead of 98; they are kept"),
        (0.010, 0.0101, "plain", "takes 10 ms instead of 10; they are not kept"),
    ],
)
def test_the_faster_form_is_kept(plain, compiled, kept, said):
    device = Device(plain, compiled)
    assert [device.trial(number) for number in range(STEPS + 5)] == list(range(1, STEPS + 6))
    half = STEPS // 2
    assert device.called == ["plain"] * half + ["compiled"] * half + [kept] * 5
    assert device.said == [f"with compiled networks, a step {said}"]
    before = device.now
    device.trial(0)
    assert device.now == before  # the device is waited for only while forms are tried


@pytest.mark.parametrize(
    ("device", "level", "tried"),
    [("cuda", "seeded", True), ("cuda:1", "free", True), ("cuda", "exact", False),
     ("cpu", "free", False)],
)  # fmt: skip
def test_exact_runs_and_cpus_try_nothing(device, level, tried, monkeypatch):
    def function(number):
        return number

    monkeypatch.setattr(compiling, "cannot_compile", lambda device: "")
    try:
        torch.use_deterministic_algorithms(level != "free", warn_only=level == "seeded")
        found = compiled_if_faster(function, Context(Path("nowhere"), device=device))
    finally:
        torch.use_deterministic_algorithms(False)
    assert isinstance(found, Trial) is tried
    assert tried or found is function


def test_without_a_compiler_networks_run_as_they_are(monkeypatch):
    said, no_compiler = [], {"cpp.cxx": ("/no/compiler",)}
    with torch._inductor.config.patch(no_compiler):
        why = compiling.cannot_compile("cpu")
    assert why
    assert "\n" not in why
    monkeypatch.setattr(compiling, "cannot_compile", lambda device: why)
    context = Context(Path("nowhere"), device="cuda", log=said.append)
    assert compiled_if_faster(abs, context) is abs
    assert said == [f"PyTorch cannot compile networks here, so they run as they are: {why}"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # read by torch itself
def test_traced_networks_learn_the_same_in_steps_that_call_them_often(tmp_path):
    options, updated = tiny_stages.OPTIONS[CycleGAN], []
    for backend in (None, "eager", "as written"):
        torch.manual_seed(0)
        trainer = Trainer(options, Context(tmp_path))
        if backend:
            compile_in_place([*trainer.generators, *trainer.judges], backend="eager")
        step = as_written(trainer.step) if backend == "as written" else trainer.step
        images = torch.rand(2, 2, 1, 24, 24, generator=torch.Generator().manual_seed(1))
        losses = [step(*images), step(*images)][-1]
        updated.append([*losses.values(), *trainer.networks["generators"].parameters()])
    for ours, *others in zip(*updated, strict=True):
        for other in others:
            torch.testing.assert_close(ours, other)


def test_a_traced_network_learns_the_same():
    """What a compiler is given of the U-Net, without what it makes of it, which takes minutes."""
    options = UNet3DOptions(base_channels=2, max_channels=4, patch=(16, 16, 8))
    plan = make_plan((1, 1, 1), (16, 16, 8), cases=1, classes=2, options=options)
    network, images = build(plan, 2), torch.randn(2, 1, *plan.patch)
    traced = torch.compile(network.levels, backend="eager", dynamic=False)
    weights, found = list(network.parameters()), []
    for levels in (network.levels, traced):
        loss = sum(scores.square().mean() for scores in levels(images))
        found.append(torch.autograd.grad(loss, weights))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
