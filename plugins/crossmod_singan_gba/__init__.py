"""Generative blending augmentation: rescale a lesion, let a SinGAN redraw it into its image.

Salle et al. 2024, section 3.3; SinGAN of Shaham et al. 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from crossmod import (
    Augmenter,
    ClassName,
    Cohort,
    Context,
    Count,
    DataFacts,
    Options,
    Pair,
    Positive,
    Rate,
    RecipeError,
    RescaleGroup,
    ScanFacts,
    Size,
    State,
    distinct_names,
    hookimpl,
    label_of,
    match_groups,
    unmatched_groups,
)


def _distinct(scales: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(scales)) < len(scales):
        raise ValueError("list each start scale once")
    return scales


Scale = Annotated[int, Field(strict=True, ge=1, le=1000)]
StartScales = Annotated[
    tuple[Scale, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)
]


class BlendGroup(RescaleGroup):
    """Lesions to change: which ones, by which factors, redrawn from which scale on."""

    start_scales: StartScales | None = None
    """Start scales of this group, in place of those of the stage."""


class SinganGbaOptions(Options):
    """Options of singan-gba."""

    structure: ClassName = ""
    """Name of the class that is changed; by default `evaluate.structure`."""
    groups: Annotated[
        tuple[BlendGroup, ...], Field(min_length=1, max_length=100), AfterValidator(distinct_names)
    ]
    """Which lesions get which factors; a lesion may belong to several groups."""
    start_scales: StartScales = (13, 15)
    """The first generator that runs; each makes one new pair. The last scale changes least."""
    training_case: str | None = None
    """The target case to learn from; by default the one of median head area at the level of the
    lesions."""
    training_slice: Annotated[int, Field(strict=True, ge=0, le=10_000)] | None = None
    """The axial slice of `training_case` to learn from; by default the one at the level of the
    lesions."""
    schedule: Literal["paper", "fast"] = "paper"
    """How wide the networks are and how long they learn: as in the paper, or at a small part of the
    cost. With "fast", scales that redraw lesions learn for half of `iterations`, those below for a
    quarter; channels double once at most; the number format is that of the run."""
    scale_factor: Annotated[float, Field(strict=True, ge=0.1, le=0.99)] = 0.85
    """Ratio of neighboring scales; corrected so that the coarsest side is `min_size`."""
    min_size: Size = 25
    """Shorter side of the coarsest scale, pixels."""
    max_size: Size = 1024
    """Longer side of the finest scale, pixels; larger slices are reduced to it."""
    width: Size = 32
    """Channels of the coarsest networks."""
    width_doubles_every: Size = 4
    """Scales after which the channels double."""
    max_width: Size = 128
    """Largest number of channels."""
    kernel: Literal[3, 5, 7] = 3
    """Side of the convolutions; five of them see 11 pixels with 3, 21 with 5."""
    iterations: Count = 2000
    """Iterations per scale; the learning rate drops to a tenth after 80 % of them."""
    steps: Size = 3
    """Steps of the discriminator, then of the generator, in one iteration."""
    learning_rate: Rate = 5e-4
    """Learning rate of Adam, whose betas are 0.5 and 0.999."""
    penalty_weight: Positive = 0.1
    """Weight of the gradient penalty (WGAN-GP)."""
    reconstruction_weight: Positive = 10.0
    """Weight of reproducing the slice from the fixed noise (SinGAN's alpha)."""
    noise_weight: Positive = 0.1
    """Noise above the coarsest scale: this times the error the scales below leave."""
    eight_bit: bool = False
    """Round images to 256 levels whenever they are resized, as the official code does; this loses
    detail and serves to reproduce results of that code."""
    mask_radius: Annotated[int, Field(strict=True, ge=0, le=1000)] = 7
    """Radius of the disk the lesion is dilated by before blending, voxels."""
    mask_sigma: Annotated[float, Field(strict=True, gt=0.0, le=1000.0)] = 5.0
    """Standard deviation of the blur of the dilated lesion, voxels."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.training_slice is not None and self.training_case is None:
            raise ValueError("training_slice needs training_case")
        if self.min_size <= 5 * (self.kernel - 1):
            raise ValueError(f"min_size must be above {5 * (self.kernel - 1)}, what 5 layers see")
        return self

    def starts_of(self, group: BlendGroup) -> tuple[int, ...]:
        """The start scales of a group."""
        return group.start_scales or self.start_scales

    @property
    def first_start(self) -> int:
        """The coarsest scale that redraws lesions."""
        return min(scale for group in self.groups for scale in self.starts_of(group))

    def check_scales(self, shape: tuple[int, int]) -> None:
        """Refuse start scales that the pyramid of a training slice does not have."""
        from crossmod_singan_gba.scales import ratios_of

        size = f"{shape[0]} x {shape[1]} pixels"
        if min(shape) <= self.min_size:
            raise RecipeError(
                f"the training slice has only {size}",
                where="min_size",
                allowed=f"less than {min(shape)}",
            )
        last = len(ratios_of(shape, self.scale_factor, self.min_size, self.max_size)) - 1
        wrong = {s for group in self.groups for s in self.starts_of(group) if s > last}
        if wrong:
            raise RecipeError(
                f"scale {max(wrong)} does not exist: a slice of {size} has {last + 1} scales",
                where="start_scales",
                allowed=f"1 to {last}",
                fix="a scale_factor closer to 1, or a smaller min_size, gives more scales",
            )


class SinganGba(Augmenter[SinganGbaOptions]):
    """Yields one blended copy of a lesion per group, factor and start scale."""

    def fit(self, labeled: Cohort, target: Cohort, ctx: Context) -> State:
        """Train a SinGAN on one real target slice."""
        from crossmod.torch import prepare
        from crossmod_singan_gba.choose import choose_slice
        from crossmod_singan_gba.panels import upright
        from crossmod_singan_gba.train import train

        options = self.options
        label = label_of(options.structure, ctx.classes)
        choice = choose_slice(labeled, target, label, options.training_case, options.training_slice)
        for line in choice.lines():
            ctx.log(line)
        ctx.panel("training-slice", [[upright(one) for one in choice.slices.values()]])
        height, width = choice.image.shape
        options.check_scales((height, width))
        prepare(ctx.seed)
        return train(choice, options, ctx).state()

    def check_data(self, data: DataFacts) -> Iterator[str]:
        """Yield start scales, a case or a slice that no training slice could have."""
        options, scans = self.options, data.target
        if options.training_case is not None:
            scans = tuple(scan for scan in scans if scan.case == options.training_case)
            if not scans:
                scans, known = data.target, ", ".join(scan.case for scan in data.target[:5])
                yield f"training_case: no target scan is called so; there are {known}"
            elif (options.training_slice or 0) >= (depth := scans[0].shape[2]):
                yield f"training_slice: {options.training_case} has slices 0 to {depth - 1}"
        faults = [self._fault_of(scan) for scan in scans]
        if any(faults):
            some = "" if all(faults) else f"warning: {faults.count('')} scans can be learned from; "
            yield some + next(filter(None, faults))
        yield from unmatched_groups(options.groups, data.applied, options.structure)

    def _fault_of(self, scan: ScanFacts) -> str:
        """Why no slice of a scan can be learned from; empty if one can."""
        try:
            self.options.check_scales((scan.shape[0], scan.shape[1]))
        except RecipeError as error:
            return f"{error.where}: {error.what}; allowed: {error.allowed}. {error.fix}".strip()
        return ""

    def augment(self, pairs: Iterable[Pair], state: State, ctx: Context) -> Iterator[Pair]:
        """Yield one copy for each match, factor and start scale; images stay in [0, 1]."""
        from crossmod_singan_gba.cascade import Cascade
        from crossmod_singan_gba.copies import Copier

        options = self.options
        label = label_of(options.structure, ctx.classes)
        cascade = Cascade.load(state, device=ctx.device, eight_bit=options.eight_bit)
        copier = Copier(cascade, label, options, ctx)
        for pair, group, changes in match_groups(pairs, options.groups, label, ctx.log):
            yield from copier.copies(pair, group, changes)


@hookimpl
def crossmod_stage() -> type[SinganGba]:
    """Offer the stage."""
    return SinganGba
