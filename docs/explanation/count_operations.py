"""Count the operations of the challenge recipe and its ablation; prints the tables of cost.md.

Networks, losses and training steps are those of the plugins, on tensors without data ("meta"): what
would run is counted, nothing is computed, nothing is timed. Operations are multiplications and
additions of convolutions, by the formulas of PyTorch's FlopCounterMode, which itself cannot follow
a gradient penalty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from crossmod_cyclegan.train import Trainer
from crossmod_singan_gba.cascade import Cascade
from crossmod_singan_gba.networks import Discriminator
from crossmod_singan_gba.networks import Generator as ScaleGenerator
from crossmod_singan_gba.scales import ratios_of
from crossmod_singan_gba.schedule import schedule_of
from crossmod_singan_gba.train import ScaleTrainer
from crossmod_unet3d import WATCHES  # times a training predicts its validation fold
from crossmod_unet3d.networks import build
from crossmod_unet3d.plan import Plan, make_plan
from crossmod_unet3d.train import deep_loss
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from crossmod import Context
from crossmod.recipe.load import Checked, Segmentation, load, load_all

RECIPES = Path(__file__).parents[2] / "recipes"

# The cohort (CrossMoDA 2022). The paper speaks of about 30000 axial slices of London and 14000 of
# Tilburg, both modalities together. Assumed: half of each is ceT1, and volumes are equally high.
SOURCE, TARGET, VALIDATION = 210, 210, 64
SLICES = {"ldn": 30_000 // 2, "etz": 14_000 // 2, "*": (30_000 + 14_000) // 2}  # of one modality
HEIGHT = round(SLICES["*"] / SOURCE)
COPIED = {"large-heterogeneous": 29, "small": 19}  # scans that get augmented copies
LESION_SLICES = {"large-heterogeneous": 20, "small": 8}  # assumed: slices of 1 mm with tumor

# An H100 (SXM): dense bf16 and fp32 peaks of its data sheet, and assumed shares of them that
# convolutions keep.
BF16, FP32, SHARES = 989e12, 67e12, (0.30, 0.10)
CALL_SECONDS = 10e-6  # assumed: what PyTorch takes to launch one operation on a GPU


# Seconds of a step that tests/gpu/test_speed.py measured on one H100 80GB (SXM), "seeded", bf16 but
# for the SinGAN: before patches were made on the GPU and cuDNN chose by time. The U-Net's step is
# that of volumes with this voxel size and shape; other plans are scaled by their operations.
MEASURED = {"CycleGAN": 0.076, "SinGAN": 4.015, "U-Net": 0.098}
MEASURED_SPACING_MM, MEASURED_SHAPE = (0.6, 0.6, 1.0), (256, 256, 104)


class Kept:
    """A tensor that waits for the backward pass; its storage counts until the last one goes."""

    holders: ClassVar[Counter[int]] = Counter()
    now = most = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.key = tensor.untyped_storage()._cdata
        Kept.holders[self.key] += 1
        if Kept.holders[self.key] == 1:
            Kept.now += tensor.untyped_storage().nbytes()
            Kept.most = max(Kept.most, Kept.now)

    def __del__(self) -> None:
        Kept.holders[self.key] -= 1
        if not Kept.holders[self.key]:
            Kept.now -= self.tensor.untyped_storage().nbytes()


class Count(TorchDispatchMode):
    """Counts operations, and calls that compute something."""

    flops = calls = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        result = function(*arguments, **keywords)
        packet = function.overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*arguments, **keywords, out_val=result)
        idle = function.is_view or packet.__name__.startswith(("empty", "new_empty", "detach"))
        self.calls += not idle
        return result


@dataclass(frozen=True)
class Work:
    """One kind of work: how often it is done, and operations, calls and kept bytes of one.

    `peak` are the operations a second of the GPU in the number format of the work.
    """

    name: str
    times: float
    flops: float
    calls: float
    kept: float = 0.0
    peak: float = BF16

    def hours(self, share: float) -> float:
        """Time on one GPU at a share of its peak, but no less than all calls take."""
        return self.times * max(self.flops / (share * self.peak), self.calls * CALL_SECONDS) / 3600

    def row(self) -> str:
        return (
            f"| {self.name} | {self.times:,.0f} | {self.flops / 1e12:.3g} "
            f"| {round(self.calls, -2):,.0f} | {total([self])} |"
        )

    def memory(self) -> str:
        """A row of the table of memory."""
        size = self.kept / 1e9
        half = f"{size / 2:.1f}" if self.peak == BF16 else "never"
        return f"| {self.name.partition(',')[0]} | {size:.1f} | {half} |"


def total(work: list[Work], unit: float = 1.0) -> str:
    """Operations of several kinds of work, and the range of hours on one GPU."""
    flops = sum(one.times * one.flops for one in work)
    low, high = (sum(one.hours(share) for one in work) / unit for share in SHARES)
    return f"{brief(flops / 1e18)} | {brief(low)} to {brief(high)}"


def brief(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def counted(name: str, times: float, work: Callable[[], object]) -> Work:
    """Do work once and count it."""
    Kept.most = Kept.now
    with Count() as count, torch.autograd.graph.saved_tensors_hooks(Kept, lambda one: one.tensor):
        work()
    # Hundreds: how many calls an operation takes differs between versions of PyTorch.
    return Work(name, times, count.flops, round(count.calls, -2), Kept.most)


def images(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device="meta")


def cyclegan(options: Any, side: int, slices: int) -> list[Work]:
    """Training on so many slices of each modality, translation of all source scans."""
    trainer = Trainer(options, Context(Path()))
    trainer.generators.to("meta")
    trainer.judges.to("meta")
    one = images(options.batch_size, 1, side, side)
    steps = slices // options.batch_size * (options.epochs + options.decay_epochs)
    to_target, _ = trainer.result
    with torch.no_grad():
        translation = counted("translation, slices", SLICES["*"], lambda: to_target(one[:1]))
    return [counted("CycleGAN, steps", steps, lambda: trainer.step(one, one)), translation]


def singan(options: Any, side: int) -> list[Work]:
    """Training scale by scale, and redrawing the lesions."""
    ratios = ratios_of((side, side), options.scale_factor, options.min_size, options.max_size)
    cascade, fixed, scales = Cascade(ratios, [], []), [], []
    schedule, ctx = schedule_of(options, len(ratios)), Context(Path())
    for scale, size in enumerate(cascade.sides((side, side))):
        plan = schedule.scales[scale]
        cascade.generators.append(ScaleGenerator(plan.width, options.kernel))
        cascade.amplitudes.append(1.0)
        fixed.append(images(1, 1, *size))
        judge = Discriminator(plan.width, options.kernel)
        trainer = ScaleTrainer(cascade, fixed[-1], fixed, fixed[-1], judge, plan, options, ctx)
        trainer.generator.to("meta")
        judge.to("meta")
        scales.append(counted(f"scale {scale}", plan.iterations, trainer.step))
        trainer.generator.requires_grad_(False).eval()
    whole, times = merged(scales), schedule.total
    name = "SinGAN, iterations of all scales"
    training = Work(name, times, whole.flops / times, whole.calls / times, scales[-1].kept, FP32)
    slices = sum(
        COPIED[group.name] * LESION_SLICES[group.name] * len(group.factors)
        for group in options.groups
    )
    blending = counted("blending, slices", slices, lambda: redraw(options, cascade, side))
    return [training, replace(blending, peak=FP32)]


def redraw(options: Any, cascade: Cascade, side: int) -> None:
    """One slice from every start scale on."""
    for start in options.start_scales:
        noises = [images(1, 1, *size) for size in cascade.sides((side, side))[start:]]
        cascade.run(images(1, 1, side, side), noises, start)


def unet(name: str, setup: Segmentation, cases: list[int], labeled: int) -> list[Work]:
    """Trainings with these numbers of cases, of which the first so many label the target scans."""
    options: Any = setup.use.options
    plan = planned(setup, cases[0])
    folds = setup.table.folds
    steps = len(cases) * folds * options.epochs * options.iterations_per_epoch
    # Every fold predicts all scans; over all folds, every case is watched.
    volumes = folds * (len(cases) * VALIDATION + labeled * TARGET) + WATCHES * sum(cases)
    passes = volumes * windows(volume(setup), plan, options.overlap) * 2 ** len(options.mirror)
    step, patch = unet_work(plan, options.batch_dice)
    return [
        replace(step, name=f"{name}, steps", times=steps),
        replace(patch, name=f"{name}, predicted patches", times=passes),
    ]


@cache
def unet_work(plan: Plan, batch_dice: bool) -> tuple[Work, Work]:
    """One step of training, and the prediction of one patch."""
    with torch.device("meta"):
        network = build(plan, 1)
    patches = images(plan.batch, 1, *plan.patch)
    labels = torch.zeros((plan.batch, *plan.patch), dtype=torch.uint8, device="meta")

    def step() -> None:
        levels = network.levels(patches)
        deep_loss(levels, labels, plan.strides, batch_dice=batch_dice).backward()

    training = counted("step", 1, step)
    network.eval()
    with torch.no_grad():
        return training, counted("patch", 1, lambda: network(patches[:1]))


def volume(setup: Segmentation) -> tuple[int, int, int]:
    """Voxels of a volume of mean height."""
    return *setup.preprocess.crop, round(HEIGHT / setup.preprocess.spacing_mm[2])


def planned(setup: Segmentation, cases: int) -> Plan:
    """The plan of a training on volumes of mean height."""
    options: Any = setup.use.options
    spacing_mm = setup.preprocess.spacing_mm
    return make_plan(spacing_mm, volume(setup), cases=cases, classes=1, options=options)


def windows(shape: tuple[int, ...], plan: Plan, overlap: float) -> int:
    """Positions of a sliding window, as MONAI places them."""
    return math.prod(
        1 + math.ceil(max(n - edge, 0) / int(edge * (1 - overlap)))
        for n, edge in zip(shape, plan.patch, strict=True)
    )


def all_work(checked: Checked) -> list[Work]:
    """Everything a recipe asks for."""
    side, slices = side_and_slices(checked)
    source, rounds = SOURCE + copies(checked), checked.recipe.pseudo_label.rounds
    cases = [source, *[source + TARGET] * (rounds - 1)]
    return [
        *cyclegan(checked.translators[0].options, side, slices),
        *singan(checked.augmenters[0].options, side),
        *unet("U-Net at 0.6 mm", checked.segmentation, cases, labeled=rounds),
        *unet("U-Net at 0.4 mm", checked.last, [TARGET], labeled=0),
    ]


def side_and_slices(checked: Checked) -> tuple[int, int]:
    """Pixels of a slice, and how many of each modality the translator learns from."""
    center = checked.recipe.translate["gan"].fit_on.center
    return checked.recipe.preprocess.crop[0], SLICES[center or "*"]


def copies(checked: Checked) -> int:
    """Augmented copies: scans of each group times factors, times start scales with a SinGAN."""
    if not checked.augmenters:
        return 0
    options: Any = checked.augmenters[0].options
    scales = len(getattr(options, "start_scales", [0]))
    return sum(COPIED[group.name] * len(group.factors) * scales for group in options.groups)


def ablation(runs: list[Checked], one: list[Work]) -> dict[str, list[Work]]:
    """The trainings of runs that share translators; each trains a SinGAN and U-Nets of its own.

    What one CycleGAN and one SinGAN take is known from the work of one run.
    """
    cyclegan, _, singan, *_ = one
    found: dict[str, list[Work]] = {"CycleGANs": [], "SinGANs": [], "U-Nets, four by five": []}
    gans, cascades, segmenters = found.values()
    known = set()
    for run in runs:
        _, slices = side_and_slices(run)
        if (slices, run.recipe.seed) not in known:
            known.add((slices, run.recipe.seed))
            gans.append(replace(cyclegan, times=cyclegan.times * slices / SLICES["ldn"]))
        if run.augmenters and run.augmenters[0].plugin.identity["name"] == "singan-gba":
            cascades.append(singan)
        source, rounds = SOURCE + copies(run), run.recipe.pseudo_label.rounds
        cases = [source, *[source + TARGET] * rounds]
        segmenters.append(merged(unet("", run.segmentation, cases, labeled=rounds)))
    return found


def by_measured_steps(checked: Checked, work: list[Work], seconds: dict[str, float]) -> list[str]:
    """Rows of what all trainings take, by the measured seconds of a step of each trainer."""
    options: Any = checked.segmentation.use.options
    plan = make_plan(MEASURED_SPACING_MM, MEASURED_SHAPE, cases=SOURCE, classes=1, options=options)
    step, _ = unet_work(plan, options.batch_dice)
    gan, _, *unets = [one for one in work if one.name.endswith(("steps", "all scales"))]
    singan_options: Any = checked.augmenters[0].options
    rows = [
        ("CycleGAN", gan.times, seconds["CycleGAN"]),
        ("SinGAN, all scales", singan_options.iterations, seconds["SinGAN"]),
        *(
            (one.name.partition(",")[0], one.times, seconds["U-Net"] * one.flops / step.flops)
            for one in unets
        ),
    ]
    whole = sum(times * each for _, times, each in rows) / 3600
    return [
        *(
            f"| {name} | {times:,.0f} | {1000 * each:,.0f} | {brief(times * each / 3600)} |"
            for name, times, each in rows
        ),
        f"| **training in all** | | | {brief(whole)} |",
    ]


HOURS = "| part of the recipe | steps | ms per step | hours |"


def merged(work: list[Work]) -> Work:
    """Several kinds of work as one, done once."""
    flops, calls = (sum(w.times * getattr(w, what) for w in work) for what in ("flops", "calls"))
    return Work("", 1, flops, calls)


def disk(checked: Checked) -> list[tuple[str, float]]:
    """Bytes of what the store keeps: images float32, labels uint8, probabilities float16."""
    voxels, fine = (math.prod(volume(s)) for s in (checked.segmentation, checked.last))
    rounds = checked.recipe.pseudo_label.rounds
    with torch.device("meta"):
        network = build(planned(checked.segmentation, SOURCE), 1)
    weights = sum(array.numel() for array in network.parameters())
    models = checked.segmentation.table.folds * (1 + rounds)
    return [
        ("prepared scans", voxels * (4 * (SOURCE + TARGET + VALIDATION) + SOURCE)),
        ("translated and sharpened scans", voxels * 5 * SOURCE * len(checked.translators)),
        ("augmented copies", voxels * 5 * copies(checked)),
        ("probabilities to label from", voxels * 2 * 2 * TARGET * rounds),
        ("pseudo-labeled scans", voxels * 5 * TARGET * rounds),
        ("scans of the last round", fine * (4 * (TARGET + VALIDATION) + 5 * TARGET)),
        ("weights of the U-Nets", 4 * weights * models),
    ]


def print_table(head: str, rows: list[str]) -> None:
    print(head, "|---|" + "---:|" * (head.count("|") - 2), *rows, "", sep="\n")


def main() -> None:
    checked = load(RECIPES / "crossmoda2022.toml")
    work = all_work(checked)
    print_table(
        "| work | times | TFLOP each | calls each | EFLOP in all | hours on one H100 |",
        [*(one.row() for one in work), f"| **in all** | | | | {total(work)} |"],
    )
    print_table(
        "| training step | GB kept for the backward pass in fp32 | in bf16, about |",
        [one.memory() for one in work if one.kept],
    )
    print_table(HOURS, by_measured_steps(checked, work, MEASURED))
    sizes = disk(checked)
    sizes.append(("**in all**", sum(size for _, size in sizes)))
    print_table("| in the store | GB |", [f"| {name} | {b / 1e9:.1f} |" for name, b in sizes])
    parts = ablation(load_all(RECIPES / "crossmoda2022-ablation.toml"), work)
    rows = [f"| {name} | {len(part)} | {total(part, 24)} |" for name, part in parts.items()]
    rows.append(f"| **in all** | | {total([one for part in parts.values() for one in part], 24)} |")
    print_table("| the ablation | number | EFLOP in all | days on one H100 |", rows)


if __name__ == "__main__":
    main()
