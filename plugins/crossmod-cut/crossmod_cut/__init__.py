"""CUT: learns to translate slices by contrasting patches, with one generator and no way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from crossmod import (
    Cohort,
    Context,
    Count,
    DataError,
    DataFacts,
    Options,
    Positive,
    Rate,
    Size,
    State,
    Translator,
    Volume,
    hookimpl,
)

if TYPE_CHECKING:
    from crossmod_cut.slices import Slice

Epochs = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]


class Mode(NamedTuple):
    """What the authors set differently for CUT and FastCUT.

    Attributes:
        weight: of the contrastive loss, where the adversarial one has 1.
        identity: whether target slices, which should stay as they are, count as well.
        flips: whether the translation of a mirrored slice should be the mirrored translation.
        epochs: at the full learning rate.
        decay_epochs: in which it falls.
    """

    weight: float
    identity: bool
    flips: bool
    epochs: int
    decay_epochs: int


MODES = {
    "cut": Mode(1.0, identity=True, flips=False, epochs=200, decay_epochs=200),
    "fastcut": Mode(10.0, identity=False, flips=True, epochs=150, decay_epochs=50),
}


class CUTOptions(Options):
    """Options of the `cut` translator; the defaults are those of the authors' code."""

    mode: Literal["cut", "fastcut"] = "cut"
    """"cut" also contrasts target slices with themselves, which should not change; "fastcut" does
    not, gives the contrast ten times the weight, mirrors at random, and trains half as long."""
    contrast_weight: Positive | None = None
    """Weight of the contrastive loss, where the adversarial one has 1; by default 1 for "cut" and
    10 for "fastcut"."""
    temperature: Positive = 0.07
    """By what similarities of patches are divided; less makes the contrast sharper."""
    patches: Size = 256
    """Places per slice and layer whose features are contrasted with each other."""
    features: Size = 256
    """Length of the vectors that patches are compared by."""
    base_channels: Size = 64
    """Channels of the generator at full resolution; doubled at each downsampling."""
    blocks: Annotated[int, Field(strict=True, ge=1, le=100)] = 9
    """Residual blocks at the lowest resolution."""
    downsamplings: Annotated[int, Field(strict=True, ge=1, le=5)] = 2
    """Number of times that the generator halves the resolution."""
    discriminator_channels: Size = 64
    """Channels after the first layer of the discriminator."""
    discriminator_layers: Annotated[int, Field(strict=True, ge=1, le=5)] = 3
    """Halvings in the discriminator."""
    learning_rate: Rate = 2e-4
    """Step size of Adam, before its linear decay."""
    batch_size: Size = 1
    """Slices of each modality per step."""
    epochs: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] | None = None
    """Epochs at the full learning rate; one epoch is every slice of the larger modality. By default
    200 for "cut" and 150 for "fastcut"."""
    decay_epochs: Epochs | None = None
    """Further epochs, in which the learning rate falls linearly towards 0; by default 200 for "cut"
    and 50 for "fastcut"."""
    iterations: Count | None = None
    """Train this many steps instead of epochs; the learning rate falls over the second half."""
    flip: bool = True
    """Mirror slices along I at random."""

    @property
    def authors(self) -> Mode:
        """What the mode says."""
        return MODES[self.mode]

    @property
    def smallest_side(self) -> int:
        """The smallest slice side for which the discriminator still has a patch to judge."""
        return 3 << self.discriminator_layers


class CUT(Translator[CUTOptions]):
    """Park et al. 2020, on axial slices."""

    def fit(self, source: Cohort, target: Cohort, ctx: Context) -> State:
        """Train the generator, the discriminator and what compares patches."""
        from crossmod.torch import prepare, weights_of
        from crossmod_cut.train import train

        prepare(ctx.seed)
        sources, targets = self._slices("source", source), self._slices("target", target)
        return State(weights_of(train(sources, targets, self.options, ctx)))

    def _slices(self, modality: str, images: Cohort) -> list[Slice]:
        from crossmod_cut.slices import foreground_slices

        slices = foreground_slices(images)
        where = f"{modality} images"
        if not slices:
            raise DataError("all images are empty", where=where)
        side, needed = min(min(one.image.shape) for one in slices), self.options.smallest_side
        if side < needed:
            raise DataError(
                f"slices have a side of {side} pixels",
                where=where,
                allowed=f"{needed} or more for this discriminator",
                fix="use a larger preprocess.crop or fewer discriminator_layers",
            )
        return slices

    def check_data(self, data: DataFacts) -> Iterator[str]:
        """Yield a discriminator that no slice could be shown to."""
        side = min(min(scan.shape[:2]) for scan in (*data.labeled, *data.target))
        if side < self.options.smallest_side:
            yield (
                f"discriminator_layers: {self.options.discriminator_layers} halvings need slices of"
                f" {self.options.smallest_side} pixels or more; the smallest side is {side}"
            )

    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Translate slice by slice; the network is loaded once."""
        from crossmod.torch import load_weights
        from crossmod_cut.networks import generator_of, translate_volume

        generator = generator_of(self.options)
        load_weights(generator, state)
        generator.eval().to(ctx.device)
        for volume in volumes:
            yield volume.with_data(translate_volume(generator, volume.data[0], ctx)[None])


@hookimpl
def crossmod_stage() -> type[CUT]:
    """Offer the translator."""
    return CUT
