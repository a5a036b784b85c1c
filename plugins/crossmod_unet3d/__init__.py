"""The segmenter "unet3d": a 3D U-Net planned and trained the way nnU-Net does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from crossmod import (
    Cohort,
    Context,
    Count,
    DataFacts,
    Fraction,
    Options,
    Positive,
    Prediction,
    Rate,
    Segmenter,
    Size,
    State,
    Volume,
    Weight,
    hookimpl,
)

WATCHES = 5  # times the validation cases are scored during training


class Augmentation(Options):
    """Probability of each change to a training patch; nnU-Net's values.

    nnU-Net decides on blur and low resolution once more per channel, with one chance in two:
    the values for one channel are half of those in its code. It has no bias field. Factors of
    brightness, contrast and gamma are below 1 as often as above. In thin patches, whose longest
    edge is more than 3 times that along the largest voxel edge, every plane across that axis is
    rotated, scaled and coarsened alike, and nothing along it.
    """

    rotation: Fraction = 0.2
    """Rotation by up to 30 degrees about every axis; of thin patches by any angle, in plane."""
    scaling: Fraction = 0.2
    """Scaling by 0.7 to 1.4; above 1 objects become smaller."""
    noise: Fraction = 0.1
    """Gaussian noise with a standard deviation of 0 to 0.1."""
    blur: Fraction = 0.1
    """Gaussian blur of 0.5 to 1 voxel, drawn anew for every axis."""
    brightness: Fraction = 0.15
    """Multiplication by 0.75 to 1.25."""
    contrast: Fraction = 0.15
    """Distance to the mean times 0.75 to 1.25, within the old range."""
    low_resolution: Fraction = 0.125
    """Sampling with 0.5 to 1 times the voxels, and back."""
    inverted_gamma: Fraction = 0.1
    """Gamma curve of 0.7 to 1.5 applied to the negative; mean and spread are kept."""
    gamma: Fraction = 0.3
    """Gamma curve of 0.7 to 1.5; mean and spread are kept."""
    bias_field: Fraction = 0.1
    """Smooth change of brightness over the patch, as of a receive coil."""
    class_contrast: Fraction = 0.0
    """Another intensity curve for every class and the background, as SLAug; teaches a segmenter to
    find structures in contrasts that it has never seen, without a translator."""
    random_convolution: Fraction = 0.0
    """Mixing with the output of a random shallow network, as GIN; for the same purpose."""


class UNet3DOptions(Options):
    """Options of the 3D U-Net; the defaults are nnU-Net's, with the paper's 500 epochs."""

    base_channels: Size = 32
    """Channels of the finest stage; every coarser one has twice as many."""
    max_channels: Size = 320
    """Channels of the coarsest stages at most."""
    memory_gb: Positive = 8.0
    """Memory to plan for: less gives smaller patches, more gives larger batches."""
    patch: tuple[Size, Size, Size] | None = None
    """Voxels of a training patch along I, J, K; planned from the data by default."""
    batch_size: Size | None = None
    """Patches per step; planned from the data by default, at least 2."""
    epochs: Count = 500
    """Length of the training."""
    iterations_per_epoch: Count = 250
    """Steps of an epoch; the mean loss is noted once per epoch."""
    iterations: Count | None = None
    """Length of the training in steps, in place of `epochs`."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum 0.99, or AdamW, which learns faster when training is short."""
    learning_rate: Rate = 0.01
    """Initial learning rate; it falls to 0 as (1 - t)^0.9. Use about 0.003 with AdamW."""
    weight_decay: Weight = 3e-5
    """Weight decay of all weights."""
    batch_dice: bool = False
    """Take the Dice loss over all patches of a step together."""
    foreground_fraction: Fraction = 0.33
    """Share of patches centered on a voxel of a structure; each structure is equally likely. With 1
    a network never sees what is far from structures, and may find them there. The number per step
    is rounded, as in nnU-Net; in batches of one, chance decides."""
    augmentation: Augmentation = Augmentation()
    """Probability of each change to a training patch."""
    mirror: tuple[Literal["i", "j", "k"], ...] = ("i", "j", "k")
    """Voxel axes along which training patches are flipped, each with probability 0.5."""
    mirror_predictions: bool = True
    """Average predictions over all flips along the axes of `mirror`."""
    overlap: Annotated[float, Field(strict=True, ge=0.0, le=0.9)] = 0.5
    """Overlap of neighboring windows during prediction, as a share of the window."""
    cache_gb: Positive = 8.0
    """Main memory for training volumes; on a GPU they first fill half of what is free there.
    Volumes that do not fit are read again when needed."""

    compile: bool = False
    """On a GPU, let PyTorch compile the network for training, and keep that if the first steps are
    faster. Sums are rounded differently. It does nothing with `determinism = "exact"`."""

    @property
    def steps(self) -> int:
        """Steps of a training."""
        return self.iterations or self.epochs * self.iterations_per_epoch

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """`mirror` by number."""
        return tuple("ijk".index(axis) for axis in self.mirror)


class UNet3D(Segmenter[UNet3DOptions]):
    """A 3D U-Net whose shape follows from voxel size and image size."""

    warm_starts = True
    weighs_cases = True

    def fit(self, train: Cohort, validation: Cohort, ctx: Context) -> State:
        """Train on patches; the final weights are kept, as in nnU-Net."""
        from crossmod.torch import compiled_if_faster, load_weights, prepare
        from crossmod_unet3d.memory import room_for_cases
        from crossmod_unet3d.networks import WEIGHTS, build, learned
        from crossmod_unet3d.patches import PatchSource, loader_threads
        from crossmod_unet3d.plan import Plan, make_plan
        from crossmod_unet3d.predict import Predictor, agreement
        from crossmod_unet3d.sampling import TrainingCases
        from crossmod_unet3d.train import train as steps_of

        prepare(ctx.seed)
        options, classes = self.options, len(ctx.classes)
        room = room_for_cases(ctx.device, options.memory_gb, options.cache_gb)
        cases = TrainingCases(train, room, ctx.rng("foreground"))
        given = cases.spacing_mm, cases.median_shape
        plan = make_plan(*given, cases=len(cases), classes=classes, options=options)
        ctx.log(f"patch {plan.patch}, batch {plan.batch}, {len(plan.strides)} stages")
        network = build(plan, classes).to(ctx.device)
        if ctx.start is not None:
            plan.require_same_network(Plan.of(ctx.start))
            load_weights(network, ctx.start, WEIGHTS)
        if options.compile:
            levels = compiled_if_faster(network.levels, ctx)
            network.levels = levels  # type: ignore[method-assign]
        every = options.iterations_per_epoch
        watched = every * max(options.steps // every // WATCHES, 1)
        source = PatchSource(cases, plan, options, ctx)
        with source.ahead(options.steps, loader_threads(ctx)) as batch_of:
            for step in steps_of(network, batch_of, plan, options, ctx):
                if len(validation) and step % watched == 0:
                    predictor = Predictor.of(learned(network, plan), options, ctx)
                    ctx.metric(step=step, **agreement(predictor, validation, ctx))
        return learned(network, plan)

    def check_data(self, data: DataFacts) -> Iterator[str]:
        """Warn of a patch that reaches beyond every training image."""
        sizes = zip(*(scan.shape for scan in data.labeled), strict=True)
        for axis, voxels, found in zip("IJK", self.options.patch or (), sizes, strict=False):
            if voxels > max(found):
                yield (
                    f"warning: patch: {voxels} voxels along {axis}, but the training images have at"
                    f" most {max(found)}; the rest of every patch is empty"
                )

    def predict(
        self, volumes: Iterable[Volume], state: State, ctx: Context
    ) -> Iterator[Prediction]:
        """Slide a window over each volume and blend the probabilities."""
        from crossmod.torch import prepare
        from crossmod_unet3d.predict import Predictor

        prepare(ctx.seed)
        predictor = Predictor.of(state, self.options, ctx)
        for volume in volumes:
            yield Prediction(volume, predictor(volume.data[0]))


@hookimpl
def crossmod_stage() -> type[UNet3D]:
    """Offer the 3D U-Net."""
    return UNet3D
