"""The trainers at their smallest, each run on the CPU and, as a program, on the stand-in too.

It must be a process of its own: torch learns of a device only before its first backward pass.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch
from crossmod_cyclegan import CycleGAN, CycleGANOptions
from crossmod_singan_gba import SinganGba, SinganGbaOptions
from crossmod_unet3d import Augmentation, UNet3D, UNet3DOptions
from crossmod_unet3d.patches import PatchSource
from crossmod_unet3d.plan import make_plan
from crossmod_unet3d.sampling import TrainingCases

from crossmod import Context
from crossmod.testing import CLASSES, small_cohort
from crossmod.torch import Means

OPTIONS = {
    CycleGAN: CycleGANOptions(
        base_channels=2,
        blocks=1,
        discriminator_channels=2,
        discriminator_layers=1,
        iterations=10,
        pool_size=3,
        weight_average=0.9,
    ),
    SinganGba: SinganGbaOptions(
        groups=[{"name": "all", "factors": [0.5]}],
        iterations=5,
        min_size=21,
        scale_factor=0.7,
        max_size=24,
        start_scales=[1],
        width=2,
        width_doubles_every=1,
        steps=2,
    ),
    UNet3D: UNet3DOptions(
        base_channels=2,
        max_channels=4,
        iterations=10,
        iterations_per_epoch=4,
        patch=(16, 16, 8),
        mirror_predictions=False,
    ),
}
"""Ten steps of each; SinGAN has two scales of five."""


def tiny(trainer, **changes):
    """A stage with these options but for some."""
    return trainer(OPTIONS[trainer].model_copy(update=changes))


STAGES = {
    "cyclegan": tiny(CycleGAN, iterations=2, pool_size=1),
    "cyclegan with resizing": tiny(CycleGAN, iterations=2, pool_size=1, upsampling="resize"),
    "cyclegan with lesions": tiny(
        CycleGAN, iterations=2, lesion_weight=1.0, edge_weight=1.0, lesion_share=0.5
    ),
    "singan-gba": tiny(SinganGba, iterations=2),
    "unet3d": tiny(UNet3D, iterations=2, iterations_per_epoch=1, mirror_predictions=True),
}


def cohorts_in(folder):
    """Labeled source and unlabeled target."""
    labeled = small_cohort(folder / "labeled", labeled=True)
    return labeled, small_cohort(folder / "target", labeled=False, seed=1)


def learned(stage, cohorts, ctx):
    """What a stage learns in a few steps."""
    labeled, target = cohorts
    given = labeled.folds(3, seed=0)[0] if isinstance(stage, UNet3D) else (labeled, target)
    return stage.fit(*given, ctx)


def learned_and_used(stage, cohorts, ctx):
    """What a stage learns in a few steps, and what it makes of a case then."""
    labeled, _ = cohorts
    state = learned(stage, cohorts, ctx)
    pairs = list(labeled.pairs())[:1]
    volumes = [pair.image for pair in pairs]
    if isinstance(stage, CycleGAN):
        return state, [made.data for made in stage.translate(volumes, state, ctx)]
    if isinstance(stage, SinganGba):
        return state, [made.image.data for made in stage.augment(pairs, state, ctx)]
    return state, [made.probabilities for made in stage.predict(volumes, state, ctx)]


def compare(name, cohorts, folder, device):
    """Nothing if a stage makes the same there, up to how kernels round, else what is wrong."""
    try:
        here = learned_and_used(STAGES[name], cohorts, Context(folder, classes=CLASSES))
        there = learned_and_used(
            STAGES[name], cohorts, Context(folder, classes=CLASSES, device=device)
        )
        for ours, theirs in zip(here[1], there[1], strict=True):
            # The U-Net predicts in another layout on a CPU; two steps grow its rounding.
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=0.01)
    except Exception:
        return traceback.format_exc()
    return ""


def patches(cohorts, folder, device, kept_on, *, thin=False):
    """A source of patches that are often changed in every way."""
    ctx = Context(folder, classes=CLASSES, device=device)
    often = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0.5))
    patch = (32, 32, 8) if thin else (16, 16, 12)
    options = tiny(UNet3D, augmentation=often, patch=patch, batch_size=3).options
    cases = TrainingCases(cohorts[0], {kept_on: 1e9}, ctx.rng("foreground"))
    plan = make_plan((1, 1, 3 if thin else 1), (64, 64, 16), cases=3, classes=2, options=options)
    return PatchSource(cases, plan, options, ctx)


def compare_patches(cohorts, folder, device):
    """Nothing if patches made there are those of the CPU, else what is wrong."""
    try:
        for thin in (False, True):
            here = patches(cohorts, folder, "cpu", "cpu", thin=thin)
            for kept_on in ("cpu", device):
                there = patches(cohorts, folder, device, kept_on, thin=thin)
                for step in range(12):
                    ours, theirs = here.batch(step), there.batch(step)
                    assert theirs.images.device.type == theirs.labels.device.type == device
                    assert ours.names == theirs.names
                    # The same kernels, so the same bits; a GPU rounds as it likes.
                    torch.testing.assert_close(ours.images, theirs.images.cpu(), rtol=0, atol=0)
                    torch.testing.assert_close(ours.labels, theirs.labels.cpu(), rtol=0, atol=0)
    except Exception:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    import accelerator

    folder = Path(sys.argv[1])
    device, cohorts = accelerator.register(), cohorts_in(folder)
    for name in STAGES:
        (folder / f"{name}.txt").write_text(compare(name, cohorts, folder, device))
    (folder / "patches.txt").write_text(compare_patches(cohorts, folder, device))
    if not accelerator.Elsewhere.operations:
        raise SystemExit("nothing was computed on the stand-in")
    layer = torch.nn.Linear(3, 2).to(device)
    try:
        layer(torch.zeros(1, 3))
    except RuntimeError as error:
        (folder / "mixture.txt").write_text(str(error))
    images = torch.randn(1, 1, 4, 4).to(device)
    try:
        torch.ops.aten.reflection_pad2d_backward(images, images[..., :2, :2], [1, 1, 1, 1])
    except RuntimeError as error:
        (folder / "unordered.txt").write_text(str(error))
    means = Means()
    for number in range(20):
        means.add({"loss": torch.tensor(float(number)).to(device)})
    read_meanwhile = means.steps
    (folder / "means.txt").write_text(f"{read_meanwhile} of 20, {means.take()}")
