"""What a GPU would refuse, without one: tensors left behind, sums without a fixed order."""

from __future__ import annotations

import accelerator
import pytest
import torch
from crossmod_cyclegan import CycleGAN, CycleGANOptions
from crossmod_singan_gba import SinganGba, SinganGbaOptions
from crossmod_unet3d import UNet3D, UNet3DOptions
from torch.utils._python_dispatch import TorchDispatchMode

from crossmod import Context
from crossmod.testing import CLASSES, small_cohort

RAISING = {
    "_cdist_backward", "_ctc_loss_backward", "_embedding_bag_dense_backward",
    "adaptive_avg_pool2d_backward", "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward", "avg_pool3d_backward", "bincount", "cumsum",
    "fractional_max_pool2d_backward", "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "histc", "kthvalue",
    "max_unpool2d", "max_unpool3d", "median", "nanmedian", "nll_loss2d_backward",
    "nll_loss2d_forward", "nll_loss_backward", "nll_loss_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "upsample_bicubic2d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward",
    "_upsample_bicubic2d_aa_backward", "_upsample_bilinear2d_aa_backward",
}  # fmt: skip
"""What `torch.use_deterministic_algorithms` lists as raising on CUDA, by the names of ATen."""


class OnlyDeterministic(TorchDispatchMode):
    """Refuses what has no deterministic kernel on CUDA; in a backward pass, too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in RAISING:
            raise RuntimeError(f"{name} does not have a deterministic implementation on CUDA")
        return func(*args, **(kwargs or {}))


GROUPS = [{"name": "all", "factors": [0.5]}]
TINY_GAN = {
    "base_channels": 2,
    "blocks": 1,
    "discriminator_channels": 2,
    "discriminator_layers": 1,
    "iterations": 2,
    "pool_size": 1,
    "weight_average": 0.9,
}
STAGES = {
    "cyclegan": CycleGAN(CycleGANOptions(**TINY_GAN)),
    "cyclegan with resizing": CycleGAN(CycleGANOptions(**TINY_GAN, upsampling="resize")),
    "singan-gba": SinganGba(
        SinganGbaOptions(
            groups=GROUPS,
            iterations=2,
            min_size=21,
            scale_factor=0.7,
            max_size=24,
            start_scales=[1],
            width=2,
            width_doubles_every=1,
            steps=2,
        )
    ),
    "unet3d": UNet3D(
        UNet3DOptions(
            base_channels=2,
            max_channels=4,
            iterations=2,
            iterations_per_epoch=1,
            patch=(16, 16, 8),
        )
    ),
}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    labeled = small_cohort(folder / "labeled", labeled=True)
    return labeled, small_cohort(folder / "target", labeled=False, seed=1)


def learned_and_used(stage, cohorts, ctx):
    """What a stage makes of a case after a few steps of its training."""
    labeled, target = cohorts
    given = labeled.folds(3, seed=0)[0] if isinstance(stage, UNet3D) else (labeled, target)
    state = stage.fit(*given, ctx)
    pairs = list(labeled.pairs())[:1]
    volumes = [pair.image for pair in pairs]
    if isinstance(stage, CycleGAN):
        return state, [made.data for made in stage.translate(volumes, state, ctx)]
    if isinstance(stage, SinganGba):
        return state, [made.image.data for made in stage.augment(pairs, state, ctx)]
    return state, [made.probabilities for made in stage.predict(volumes, state, ctx)]


@pytest.mark.parametrize("name", STAGES)
def test_everything_lies_on_the_device(name, cohorts, tmp_path):
    """On a GPU an operation raises where one of its tensors was left on the CPU."""
    device = accelerator.register()
    here = learned_and_used(STAGES[name], cohorts, Context(tmp_path, classes=CLASSES))
    there = learned_and_used(
        STAGES[name], cohorts, Context(tmp_path, classes=CLASSES, device=device)
    )
    assert accelerator.Elsewhere.operations > 0
    for ours, theirs in zip(here[1], there[1], strict=True):
        torch.testing.assert_close(
            torch.as_tensor(ours), torch.as_tensor(theirs), rtol=0, atol=0.05
        )


@pytest.mark.parametrize("name", STAGES)
def test_every_operation_has_a_deterministic_kernel_on_cuda(name, cohorts, tmp_path):
    with OnlyDeterministic():
        learned_and_used(STAGES[name], cohorts, Context(tmp_path, classes=CLASSES))


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


def test_a_tensor_left_behind_is_found():
    device = accelerator.register()
    layer = torch.nn.Linear(3, 2).to(device)
    assert layer(torch.zeros(1, 3).to(device)).device.type == device
    with pytest.raises(RuntimeError, match="same device"):
        layer(torch.zeros(1, 3))
