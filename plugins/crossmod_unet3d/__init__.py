"""The segmenter "unet3d": a 3D U-Net planned and trained the way nnU-Net does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from crossmod import (
    Cohort,
    Context,
    Count,
    Fraction,
    Options,
    Positive,
    Prediction,
    Rate,
    RecipeError,
    Segmenter,
    Size,
    State,
    Volume,
    Weight,
    hookimpl,
)

if TYPE_CHECKING:
    from crossmod_unet3d.patches import PatchSource
    from crossmod_unet3d.plan import Plan
    from crossmod_unet3d.predict import Predictor
    from crossmod_unet3d.sampling import TrainingCases
    from crossmod_unet3d.train import Schedule

PLAN, WEIGHTS = "plan", "network."
WATCHES = 5  # times the validation cases are scored during a training


class Augmentation(Options):
    """How often a training patch is changed in which way; nnU-Net's values.

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


class UNet3DOptions(Options):
    """Options of the 3D U-Net; the defaults are nnU-Net's, with the paper's 500 epochs."""

    base_channels: Size = 32
    """Channels of the finest stage; every coarser one has twice as many."""
    max_channels: Size = 320
    """Channels of the coarsest stages at most."""
    memory_gb: Positive = 8.0
    """Memory to plan for: less makes smaller patches, more makes larger batches."""
    patch: tuple[Size, Size, Size] | None = None
    """Voxels of a training patch along I, J, K; planned from the data where not given."""
    batch_size: Size | None = None
    """Patches per step; planned from the data, at least 2, where not given."""
    epochs: Count = 500
    """Length of the training."""
    iterations_per_epoch: Count = 250
    """Steps of an epoch; the mean loss is noted once per epoch."""
    iterations: Count | None = None
    """Length of the training in steps, in place of `epochs`."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum 0.99, or AdamW, which gets further in short trainings."""
    learning_rate: Rate = 0.01
    """At the start; it falls to 0 as (1 - t)^0.9. AdamW wants about 0.003."""
    weight_decay: Weight = 3e-5
    """Pull of all weights toward 0."""
    batch_dice: bool = False
    """Take the Dice loss over all patches of a step together."""
    foreground_fraction: Fraction = 0.33
    """Share of patches centered on a voxel of a structure; all structures equally often."""
    augmentation: Augmentation = Augmentation()
    """How often a training patch is changed in which way."""
    mirror: tuple[Literal["i", "j", "k"], ...] = ("i", "j", "k")
    """Voxel axes along which training patches are flipped, each in one patch of two."""
    mirror_predictions: bool = True
    """Average predictions over all flips along the axes of `mirror`."""
    overlap: Annotated[float, Field(strict=True, ge=0.0, le=0.9)] = 0.5
    """Share that neighboring windows have in common during prediction."""
    cache_gb: Positive = 8.0
    """Memory for training volumes; what does not fit is read again when needed."""


class UNet3D(Segmenter[UNet3DOptions]):
    """A 3D U-Net whose shape follows from voxel size and image size."""

    warm_starts = True

    def fit(self, train: Cohort, validation: Cohort, ctx: Context) -> State:
        """Train on patches; the final weights are kept, as in nnU-Net."""
        from crossmod.torch import load_weights, prepare, weights_of
        from crossmod_unet3d.memory import give_back_large_blocks, is_large
        from crossmod_unet3d.networks import build
        from crossmod_unet3d.plan import Plan
        from crossmod_unet3d.sampling import TrainingCases
        from crossmod_unet3d.train import train as steps_of

        prepare(ctx.seed)
        cases = TrainingCases(train, self.options.cache_gb, ctx.rng("foreground"))
        plan = self._plan(cases, len(ctx.classes))
        ctx.log(f"patch {plan.patch}, batch {plan.batch}, {len(plan.strides)} stages")
        if ctx.device == "cpu" and is_large(plan):
            give_back_large_blocks()
        network = build(plan, len(ctx.classes)).to(ctx.device)
        if ctx.start is not None:
            _require_same_network(plan, Plan.from_array(np.asarray(ctx.start[PLAN])))
            load_weights(network, _weights_in(ctx.start), WEIGHTS)
        schedule = self._schedule()
        watched = schedule.report_every * max(schedule.steps // schedule.report_every // WATCHES, 1)
        patches = self._patches(cases, plan, ctx)
        with patches.ahead(schedule.steps, _threads(ctx)) as batch_of:
            for step in steps_of(network, batch_of, plan, schedule, ctx):
                if len(validation) and step % watched == 0:
                    state = {PLAN: plan.to_array(), **weights_of(network, WEIGHTS)}
                    ctx.metric(step=step, **self._dice(validation, state, ctx))
        return {PLAN: plan.to_array(), **weights_of(network, WEIGHTS)}

    def predict(
        self, volumes: Iterable[Volume], state: State, ctx: Context
    ) -> Iterator[Prediction]:
        """Slide a window over each volume and blend what the network says."""
        from crossmod.torch import prepare

        prepare(ctx.seed)
        predictor = self._predictor(state, ctx)
        for volume in volumes:
            yield Prediction(volume, predictor(volume.data[0]))

    def _plan(self, cases: TrainingCases, classes: int) -> Plan:
        from crossmod_unet3d.plan import Wishes, make_plan

        wishes = Wishes(
            self.options.memory_gb,
            self.options.base_channels,
            self.options.max_channels,
            self.options.patch,
            self.options.batch_size,
        )
        shape = np.median(np.array(cases.shapes), axis=0).astype(int).tolist()
        return make_plan(cases.spacing_mm, shape, cases=len(cases), classes=classes, wishes=wishes)

    def _schedule(self) -> Schedule:
        from crossmod_unet3d.train import Schedule

        options = self.options
        return Schedule(
            steps=options.iterations or options.epochs * options.iterations_per_epoch,
            report_every=options.iterations_per_epoch,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            batch_dice=options.batch_dice,
        )

    def _patches(self, cases: TrainingCases, plan: Plan, ctx: Context) -> PatchSource:
        from crossmod_unet3d.patches import PatchSource

        options = self.options
        return PatchSource(
            cases, plan, options.augmentation, self._axes(), options.foreground_fraction, ctx
        )

    def _predictor(self, state: State, ctx: Context) -> Predictor:
        from crossmod.torch import load_weights
        from crossmod_unet3d.networks import build, for_inference
        from crossmod_unet3d.plan import Plan
        from crossmod_unet3d.predict import Predictor

        plan = Plan.from_array(np.asarray(state[PLAN]))
        network = build(plan, len(ctx.classes))
        load_weights(network, _weights_in(state), WEIGHTS)
        return Predictor(
            for_inference(network.to(ctx.device), ctx.device),
            plan.patch,
            overlap=self.options.overlap,
            mirror=self._axes() if self.options.mirror_predictions else (),
            device=ctx.device,
            precision=ctx.precision,
            at_once=1 if ctx.device == "cpu" else plan.batch,
            log=ctx.log,
        )

    def _axes(self) -> tuple[int, ...]:
        return tuple("ijk".index(axis) for axis in self.options.mirror)

    def _dice(self, cohort: Cohort, state: State, ctx: Context) -> dict[str, float]:
        """Mean Dice of every class with the labels of the cases that have it.

        It is called agreement, because these labels may be pseudo-labels.
        """
        predictor = self._predictor(state, ctx)
        scores: dict[str, list[float]] = {name: [] for name in ctx.classes}
        for pair in cohort.pairs():
            found = predictor(pair.image.data[0]).argmax(axis=0)
            for name, label in ctx.classes.items():
                truth, guess = pair.labels == label, found == label
                if truth.any():
                    common = np.count_nonzero(truth & guess)
                    scores[name].append(2 * common / (truth.sum() + guess.sum()))
        return {f"agreement_{name}": float(np.mean(row)) for name, row in scores.items() if row}


def _weights_in(state: State) -> State:
    return {name: array for name, array in state.items() if name != PLAN}


def _require_same_network(plan: Plan, before: Plan) -> None:
    """Weights can be taken over only where every layer has the same shape.

    Raises:
        RecipeError: the plans differ in strides, kernels or channels.
    """
    for what in ("strides", "kernels", "channels"):
        new, old = getattr(plan, what), getattr(before, what)
        if new != old:
            raise RecipeError(
                f"this network cannot go on from the weights of the round before: its {what} are"
                f" {new}, theirs {old}",
                where="pseudo_label.warm_start",
                allowed="false, or the same spacing and network options in every round",
            )


def _threads(ctx: Context) -> int:
    # A GPU waits for patches; on a CPU they compete with the network.
    return 1 if ctx.device == "cpu" else 4


@hookimpl
def crossmod_stage() -> type[Segmenter]:  # type: ignore[type-arg]
    """Offer the 3D U-Net."""
    return UNet3D
