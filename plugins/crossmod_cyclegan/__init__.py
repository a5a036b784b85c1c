"""CycleGAN: learns to translate slices between two modalities from unpaired images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from crossmod import (
    Cohort,
    Context,
    Count,
    DataError,
    DataFacts,
    FloatArray,
    Fraction,
    Options,
    Positive,
    Rate,
    RecipeError,
    Size,
    State,
    Translator,
    Volume,
    Weight,
    hookimpl,
    in_voxels,
    mean_shift_mm,
)

if TYPE_CHECKING:
    from crossmod_cyclegan.slices import Slice


class CycleGANOptions(Options):
    """Options of the `cyclegan` translator; the defaults are those of the authors' code."""

    base_channels: Size = 64
    """Channels of the generator at full resolution; doubled at each downsampling."""
    blocks: Annotated[int, Field(strict=True, ge=0, le=100)] = 9
    """Residual blocks at the lowest resolution."""
    downsamplings: Annotated[int, Field(strict=True, ge=0, le=5)] = 2
    """Number of times that the generator halves the resolution."""
    upsampling: Literal["transposed", "resize"] = "transposed"
    """How the resolution is doubled again: by a transposed convolution, or by bilinear resizing
    followed by a convolution, which avoids checkerboard artifacts."""
    discriminator_channels: Size = 64
    """Channels after the first layer of each discriminator."""
    discriminator_layers: Annotated[int, Field(strict=True, ge=1, le=5)] = 3
    """Halvings in each discriminator; 1, 2, 3 judge patches of 16, 34, 70 pixels."""
    cycle_weight: Positive = 10.0
    """Weight of the cycle loss, lambda in the paper."""
    identity_weight: Weight = 0.5
    """Weight of the identity loss, as a multiple of `cycle_weight`."""
    pool_size: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 50
    """Number of earlier translations that the discriminators may be shown again."""
    learning_rate: Rate = 2e-4
    """Step size of Adam, before its linear decay."""
    discriminator_rate: Rate = 1.0
    """Step size of the discriminators, as a multiple of `learning_rate`."""
    batch_size: Size = 1
    """Slices of each modality per step."""
    epochs: Count = 100
    """Epochs at the full learning rate; one epoch is every slice of the larger modality."""
    decay_epochs: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = 100
    """Further epochs, in which the learning rate falls linearly towards 0."""
    iterations: Count | None = None
    """Train this many steps instead of epochs; the learning rate falls over the second half."""
    weight_average: Annotated[float, Field(strict=True, ge=0.0, lt=1.0)] = 0.0
    """Decay of a running average of the generators' weights, used instead of the last weights;
    0 uses the last weights."""
    resize_to: Size | None = None
    """Enlarge slices in training so that the shorter side of a crop has this many pixels, then take
    random crops of the original size; without it, slices are used as they are. The authors' code
    does so by default, from 256 to 286 pixels. It keeps the discriminators from relying on the
    position of the head, which would teach the generators to shift it."""
    align: bool = False
    """Take the crops of both modalities from the same place of the head; their mean images tell how
    far apart they lie. Where target scans show heads further to the front, a discriminator sees
    it even in random crops, and generators learn to move anatomy there. Needs `resize_to`."""
    flip: bool = True
    """Mirror slices along I at random."""
    compile: bool = False
    """On a GPU, let PyTorch compile the networks for training, and keep that if the first steps are
    faster. Sums are rounded differently. It does nothing with `determinism = "exact"`."""
    lesion_weight: Weight = 0.0
    """Weight of finding the labeled structures again in a translation, by a small network that
    learns beside the GAN; 0 leaves it out."""
    lesion_delay: Fraction = 0.15
    """Share of the training after which that counts; the small network learns from the start."""
    lesion_share: Fraction = 0.0
    """Share of source slices that are drawn among those with a labeled structure."""
    edge_weight: Weight = 0.0
    """Weight of edges that a translation moves, adds or loses; those of labeled structures weigh
    ten times as much. 0 leaves it out."""

    @model_validator(mode="after")
    def _room_to_align(self) -> Self:
        if self.align and self.resize_to is None:
            raise ValueError(
                "align moves random crops, and without resize_to there are none: set resize_to to"
                " an eighth more than the shorter side of a slice"
            )
        return self

    @property
    def needs_labels(self) -> bool:
        """Whether the training looks at the labels of the source."""
        return bool(self.lesion_weight or self.lesion_share or self.edge_weight)

    @property
    def smallest_side(self) -> int:
        """The smallest slice side for which a discriminator still has a patch to judge."""
        return 3 << self.discriminator_layers


class CycleGAN(Translator[CycleGANOptions]):
    """Zhu et al. 2017, on axial slices."""

    def fit(self, source: Cohort, target: Cohort, ctx: Context) -> State:
        """Train both generators and both discriminators on all slices that show something."""
        from crossmod.torch import prepare, weights_of
        from crossmod_cyclegan.slices import IN_PLACE
        from crossmod_cyclegan.train import train

        prepare(ctx.seed)
        sources = self._slices("source", source, labeled=self.options.needs_labels)
        targets = self._slices("target", target)
        self._refuse_shrinking(min(min(one.image.shape) for one in sources + targets))
        apart = voxels_apart(source, target) if self.options.align else IN_PLACE
        if apart is None:
            ctx.log("warning: align: source and target images cannot be compared; crops stay apart")
            apart = IN_PLACE
        to_target, to_source = train(sources, targets, self.options, ctx, apart)
        return State(weights_of(to_target, "to_target.") | weights_of(to_source, "to_source."))

    def _slices(self, modality: str, images: Cohort, *, labeled: bool = False) -> list[Slice]:
        from crossmod_cyclegan.slices import foreground_slices

        slices = foreground_slices(images, labeled=labeled)
        if not slices:
            raise DataError("all images are empty", where=f"{modality} images")
        side = min(min(one.image.shape) for one in slices)
        needed = self.options.smallest_side
        if side < needed:
            raise DataError(
                f"slices have a side of {side} pixels",
                where=f"{modality} images",
                allowed=f"{needed} or more for this discriminator",
                fix="use a larger preprocess.crop or fewer discriminator_layers",
            )
        return slices

    def _refuse_shrinking(self, side: int) -> None:
        """Crops are as large as the smallest slice and must fit into every resized one."""
        wanted = self.options.resize_to
        if wanted is not None and wanted < side:
            raise RecipeError(
                f"{wanted} is less than the shorter side of the smallest slice, {side} pixels",
                where="resize_to",
                allowed=f"{side} or more; 286 for 256 pixels in the authors' code",
                fix=f"use resize_to = {round(side * 286 / 256)}, or leave it out",
            )

    def check_data(self, data: DataFacts) -> Iterator[str]:
        """Yield networks that no slice could be shown to."""
        sides = [min(scan.shape[:2]) for scan in (*data.labeled, *data.target)]
        options, needed = self.options, self.options.smallest_side
        if min(sides) < needed:
            yield (
                f"discriminator_layers: {options.discriminator_layers} halvings need slices of"
                f" {needed} pixels or more; the smallest side is {min(sides)}"
            )
        if options.resize_to is not None and options.resize_to < min(sides):
            yield (
                f"resize_to: {options.resize_to} is less than the shorter side of the smallest"
                f" slice, {min(sides)} pixels"
            )

    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Translate slice by slice; the network is loaded once."""
        from crossmod.torch import load_weights
        from crossmod_cyclegan.networks import Generator, translate_volume

        options = self.options
        generator = Generator(
            options.base_channels, options.blocks, options.downsamplings, options.upsampling
        )
        load_weights(generator, state, "to_target.")
        generator.eval().to(ctx.device)
        for volume in volumes:
            yield volume.with_data(translate_volume(generator, volume.data[0], ctx)[None])


def voxels_apart(source: Cohort, target: Cohort) -> FloatArray | None:
    """How far along I and J target images show heads off the place in source images, ``(2,)``.

    None if nothing tells: slices of different sizes, or images without edges.
    """
    first, other = (images.cases[0].volume() for images in (source, target))
    moved = mean_shift_mm(source, target)
    if np.isnan(moved).any() or first.grid[:2] != other.grid[:2]:
        return None
    return in_voxels(first, moved)[:2].astype(np.float32)


@hookimpl
def crossmod_stage() -> type[CycleGAN]:
    """Offer the translator."""
    return CycleGAN
