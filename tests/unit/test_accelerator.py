"""What a GPU would refuse, without one: tensors left behind, sums without a fixed order."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny_stages
import torch
from accelerator import OnlyDeterministic
from tiny_stages import STAGES
from torch.utils._python_dispatch import TorchDispatchMode

from crossmod import Context
from crossmod.testing import CLASSES


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What became of each stage on the stand-in accelerator."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, tiny_stages.__file__, str(folder)]
    subprocess.run(command, check=True, timeout=600)
    return {path.stem: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize("name", STAGES)
def test_everything_lies_on_the_device(name, elsewhere):
    """On a GPU an operation raises where one of its tensors was left on the CPU.

    And where it has no deterministic kernel, in a backward pass, too.
    """
    assert elsewhere[name] == ""


def test_losses_are_read_late(elsewhere):
    """So that no step waits for the one before."""
    assert elsewhere["means"] == "16 of 20, {'loss': 9.5}"


def test_a_tensor_left_behind_is_found(elsewhere):
    assert "same device" in elsewhere["mixture"]


def test_patches_made_on_the_device_are_those_of_the_cpu(elsewhere):
    """The same decisions and arithmetic, wherever a volume is kept and the patch is made."""
    assert elsewhere["patches"] == ""


class NothingWaits(TorchDispatchMode):
    """Refuses what makes Python wait for a GPU: to read a number, or to learn of a size."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2"}:
            raise RuntimeError(f"{name} waits")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("thin", [False, True])
def test_making_a_patch_never_waits_for_the_device(thin, cohorts, tmp_path):
    source = tiny_stages.patches(cohorts, tmp_path, "cpu", "cpu", thin=thin)
    with NothingWaits(), OnlyDeterministic():
        for step in range(12):
            source.batch(step)
    with pytest.raises(RuntimeError, match="waits"), NothingWaits():
        torch.ones(1).item()


@pytest.mark.parametrize("name", ["cyclegan", "unet3d"])
def test_a_step_never_waits_for_the_device(name, cohorts, tmp_path):
    with NothingWaits():
        tiny_stages.learned(STAGES[name], cohorts, Context(tmp_path, classes=CLASSES))


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    return tiny_stages.cohorts_in(tmp_path_factory.mktemp("cohorts"))


def test_an_operation_without_a_fixed_order_is_found_there(elsewhere):
    assert "reflection_pad2d_backward does not have a deterministic" in elsewhere["unordered"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: torch.nn.ReflectionPad2d(1)(x).sum(),
        lambda x: torch.nn.Upsample(scale_factor=2, mode="bilinear")(x).sum(),
        lambda x: torch.nn.functional.nll_loss(x, torch.zeros(1, 4, 4, dtype=torch.long)),
    ],
)
def test_operations_without_are_found(wrong):
    images = torch.randn(1, 1, 4, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="deterministic"), OnlyDeterministic():
        wrong(images).backward()
