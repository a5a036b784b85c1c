"""Full-size trainings on a GPU: time of a step, throughput, and the share of it that it idles.

Measured, not judged: the figures go to docs/explanation/cost.md. The GPU is waited for before and
after a span of steps, never within one.
"""

from __future__ import annotations

import runpy
import time
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from crossmod_cyclegan import CycleGAN, CycleGANOptions
from crossmod_singan_gba import SinganGba, SinganGbaOptions
from crossmod_singan_gba.scales import ratios_of
from crossmod_unet3d import UNet3D, UNet3DOptions
from crossmod_unet3d.networks import build
from crossmod_unet3d.patches import Batch, PatchSource
from crossmod_unet3d.plan import make_plan
from crossmod_unet3d.sampling import TrainingCases
from crossmod_unet3d.train import train

from crossmod import Context, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.torch import set_up

SHAPE, SPACING_MM, CASES = (256, 256, 104), (0.6, 0.6, 1.0), 4
CLASSES = {"tumor": 1}
LEVELS = ["seeded", "free"]


class Clock:
    """Takes the place of a progress bar: times spans of steps, and records the GPU in one of them.

    Args:
        spans: first step of each, and the step after its last; in order.
        watched: the number of the span in which the work of the GPU is recorded.
    """

    def __init__(self, *spans, watched=0):
        self.spans, self.watched, self.seconds, self.idle = spans, watched, [], 0.0

    def __call__(self, items, *, total=None, label=""):
        if label not in ("train", "cyclegan", "singan"):
            yield from items
            return
        firsts, ends = (set(steps) for steps in zip(*self.spans, strict=True))
        began = 0.0
        watched = [torch.profiler.ProfilerActivity.CUDA]
        profiler = torch.profiler.profile(activities=watched, acc_events=True)
        for step in chain(items, [total]):
            if step in ends:
                torch.cuda.synchronize()
                spent = time.perf_counter() - began
                if len(self.seconds) == self.watched:
                    profiler.stop()
                    self.idle = 1 - busy_seconds(profiler) / spent
                first, end = self.spans[len(self.seconds)]
                self.seconds.append(spent / (end - first))
            if step in firsts:
                if len(self.seconds) == self.watched:
                    profiler.start()
                torch.cuda.synchronize()
                began = time.perf_counter()
            if step != total:
                yield step


def busy_seconds(profiler):
    """Time in which at least one kernel or copy ran."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, until = 0.0, 0.0
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Volumes as large as those of the challenge: labeled source, unlabeled target."""
    folder, found = tmp_path_factory.mktemp("full"), []
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        writer = CohortWriter(folder / name, CLASSES)
        for number in range(CASES):
            image = rng.random((1, *SHAPE), np.float32)
            labels = np.zeros(SHAPE, np.uint8)
            labels[100:130, 100:130, 40:60] = 1
            volume = Volume.of(image, np.diag([*SPACING_MM, 1.0]), case=f"{name}-{number}")
            writer.add(volume, labels=labels if name == "source" else None)
        found.append(writer.close())
    return found


def timed(stage, given, folder, level, clock, precision="bf16", log=lambda text: None):
    set_up(level, "cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ctx = Context(
        folder, classes=CLASSES, device="cuda", precision=precision, progress=clock, log=log
    )
    stage.fit(*given, ctx)
    return torch.cuda.max_memory_reserved() / 2**30


def line(what, level, seconds, clock, gib):
    return (
        f"{what:34} {level:7} {1000 * seconds:7.0f} ms a step, {1 / seconds:5.1f} a second,"
        f" idle {clock.idle:4.0%}, {gib:4.1f} GiB"
    )


@pytest.fixture(scope="module")
def measured():
    """Seconds of a step by trainer, as `by_measured_steps` of count_operations.py takes them."""
    return {}


@pytest.mark.parametrize("level", LEVELS)
def test_unet_of_the_challenge(level, cohorts, tmp_path, note, measured):
    labeled, _ = cohorts
    stage = UNet3D(UNet3DOptions(iterations=56, iterations_per_epoch=56))
    clock = Clock((16, 26), (36, 56))
    gib = timed(stage, (labeled, labeled.only(lambda case: False)), tmp_path, level, clock)
    seconds = clock.seconds[-1]
    note(line("U-Net, with its patches", level, seconds, clock, gib))
    if level == "seeded":
        measured["U-Net"] = seconds
    assert 0 < seconds < 5


def test_unet_compiled_if_that_is_faster(cohorts, tmp_path, note):
    labeled, _ = cohorts
    stage = UNet3D(UNet3DOptions(iterations=56, iterations_per_epoch=56, compile=True))
    clock, said = Clock((26, 36), (36, 56)), []
    given = labeled, labeled.only(lambda case: False)
    gib = timed(stage, given, tmp_path, "seeded", clock, log=said.append)
    [line_of_trial] = [text for text in said if "compiled networks" in text]
    note(line("U-Net, compiled if faster", "seeded", clock.seconds[-1], clock, gib))
    note(line_of_trial)


@pytest.mark.parametrize("kept_on", ["cuda", "cpu"])
def test_patches_alone(kept_on, cohorts, tmp_path, note):
    """What the GPU and one thread beside it need for patches of the default augmentation."""
    ctx, options = Context(tmp_path, classes=CLASSES, device="cuda"), UNet3DOptions()
    cases = TrainingCases(cohorts[0], {kept_on: 2**36}, ctx.rng("foreground"))
    plan = make_plan(SPACING_MM, SHAPE, cases=100, classes=1, options=options)
    source = PatchSource(cases, plan, options, ctx)
    for step in range(10):
        source.batch(step)
    clock = Clock((0, 40))
    for step in clock(range(40), total=40, label="train"):
        source.batch(10 + step)
    milliseconds = 1000 * clock.seconds[-1]
    note(
        f"{plan.batch} patches, volumes on {kept_on}: {milliseconds:.1f} ms, idle {clock.idle:.0%}"
    )


def patches_that_wait():
    """The plan of the challenge, and a batch that lies where a GPU can take it."""
    plan = make_plan(SPACING_MM, SHAPE, cases=100, classes=1, options=UNet3DOptions())
    images = torch.randn(plan.batch, 1, *plan.patch).pin_memory()
    labels = (torch.rand(plan.batch, *plan.patch) < 0.02).to(torch.uint8).pin_memory()
    return plan, Batch(images, labels, ["a"] * plan.batch)


@pytest.mark.parametrize("level", LEVELS)
def test_unet_on_patches_that_wait(level, tmp_path, note):
    """What the GPU alone needs."""
    set_up(level, "cuda")
    torch.cuda.reset_peak_memory_stats()
    plan, batch = patches_that_wait()
    clock = Clock((6, 14), (14, 30))
    ctx = Context(tmp_path, classes=CLASSES, device="cuda", precision="bf16", progress=clock)
    network = build(plan, 1).to("cuda")
    options = UNet3DOptions(iterations=30, iterations_per_epoch=30)
    for _ in train(network, lambda step: batch, plan, options, ctx):
        pass
    gib = torch.cuda.max_memory_reserved() / 2**30
    what = f"U-Net alone, {plan.batch} x {plan.patch}"
    note(line(what, level, clock.seconds[-1], clock, gib))


@pytest.mark.parametrize(
    ("level", "precision"), [("seeded", "bf16"), ("free", "bf16"), ("seeded", "fp32")]
)
def test_cyclegan_of_the_challenge(level, precision, cohorts, tmp_path, note, measured):
    clock = Clock((10, 30), (30, 60))
    stage = CycleGAN(CycleGANOptions(iterations=60))
    gib = timed(stage, cohorts, tmp_path, level, clock, precision)
    seconds = clock.seconds[-1]
    if (level, precision) == ("seeded", "bf16"):
        measured["CycleGAN"] = seconds
    note(line(f"CycleGAN, 256 x 256, {precision}", level, seconds, clock, gib))


# What torch looks at while it compiles; it hides this warning itself, but not from a filter.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_cyclegan_compiled_if_that_is_faster(cohorts, tmp_path, note):
    clock, said = Clock((26, 46), (46, 76)), []
    stage = CycleGAN(CycleGANOptions(iterations=76, compile=True))
    gib = timed(stage, cohorts, tmp_path, "seeded", clock, log=said.append)
    [line_of_trial] = [text for text in said if "compiled networks" in text]
    note(line("CycleGAN, compiled if faster", "seeded", clock.seconds[-1], clock, gib))
    note(line_of_trial)


def test_singan_of_the_challenge(cohorts, tmp_path, note, measured):
    """An iteration of each of the 17 scales, weighed alike, as each is trained as long."""
    per_scale = 6
    options = SinganGbaOptions(
        groups=[{"name": "all", "factors": [0.5]}], kernel=5, iterations=per_scale
    )
    sizes = options.scale_factor, options.min_size, options.max_size
    scales = len(ratios_of(SHAPE[:2], *sizes))
    spans = [(n * per_scale + 3, (n + 1) * per_scale) for n in range(scales)]
    clock = Clock(*spans, watched=scales - 1)
    gib = timed(SinganGba(options), cohorts, tmp_path, "seeded", clock)
    assert len(clock.seconds) == scales
    measured["SinGAN"] = sum(clock.seconds)
    note(line(f"SinGAN, finest of {scales} scales", "seeded", clock.seconds[-1], clock, gib))
    note(line(f"SinGAN, all {scales} scales together", "seeded", sum(clock.seconds), clock, gib))


@pytest.mark.parametrize("compiled", [False, True])
def test_step_of_nnunet_on_the_same_patches(compiled, note):
    """`nnUNetTrainer.train_step` for the same plan, as it comes and as nnU-Net compiles it."""
    trainers = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    torch.backends.cudnn.benchmark = True  # as nnU-Net sets it
    plan, batch = patches_that_wait()
    trainer = object.__new__(trainers.nnUNetTrainer)  # no data set: what a step needs and no more
    network = nnunet_of(plan).to("cuda").train()
    trainer.device = torch.device("cuda")
    trainer.network = torch.compile(network) if compiled else network
    trainer.optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5
    )
    trainer.grad_scaler = torch.amp.GradScaler("cuda")
    trainer.loss = nnunet_loss(len(plan.strides))
    scales = np.cumprod(np.array(plan.strides), axis=0)[:-1]
    target = [batch.labels[:, None, ::i, ::j, ::k].float().pin_memory() for i, j, k in scales]
    seconds = stepped(trainer, batch.images, target)
    what = "compiled" if compiled else "not compiled"
    note(f"nnU-Net's train_step, {what}: {1000 * seconds:.0f} ms a step")


def nnunet_of(plan):
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=len(plan.strides),
        features_per_stage=plan.channels,
        conv_op=torch.nn.Conv3d,
        kernel_sizes=plan.kernels,
        strides=plan.strides,
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def nnunet_loss(stages):
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    weights = np.array([0.5**n for n in range(stages - 1)])
    weights[-1] = 0
    settings = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(settings, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, weights / weights.sum())


def stepped(trainer, images, target):
    times = []
    for _ in range(22):
        torch.cuda.synchronize()
        times.append(time.perf_counter())
        trainer.train_step({"data": images, "target": target})
    torch.cuda.synchronize()
    times.append(time.perf_counter())
    return median(b - a for a, b in pairwise(times[6:]))


def test_what_the_recipe_takes(measured, note):
    """By the steps above, the trainings of the challenge recipe as a table of cost.md."""
    if len(measured) < 3:
        pytest.skip("needs the measured steps of all trainers")
    page = Path(__file__).parents[2] / "docs" / "explanation" / "count_operations.py"
    count = runpy.run_path(str(page))
    checked = count["load"](count["RECIPES"] / "crossmoda2022.toml")
    rows = count["by_measured_steps"](checked, count["all_work"](checked), measured)
    note("\n  ".join([count["HOURS"], *rows]))
