"""Prediction with a sliding window, and how well it agrees with labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from crossmod import Cohort, Context, FloatArray, State, dice
from crossmod.torch import autocast, is_out_of_memory, load_weights
from crossmod_unet3d.networks import WEIGHTS, build
from crossmod_unet3d.plan import Axes, Plan
from crossmod_unet3d.sampling import z_score

if TYPE_CHECKING:
    from crossmod_unet3d import UNet3DOptions

BLUR = 0.125  # of the window's edge: nnU-Net's weight of a prediction far from the middle


@dataclass
class Predictor:
    """Class probabilities of whole volumes from a network that sees patches.

    Where the memory of the device does not hold that many windows, it goes on with fewer at once,
    and at last with one at a time, blended in main memory.

    Attributes:
        network: in evaluation mode, on the device.
        window: voxels of one patch.
        overlap: share that neighboring windows have in common.
        mirror: axes of the volume; predictions are averaged over all flips along them.
        ctx: the run; a line is logged when memory was too small.
        at_once: windows that pass the network together.
    """

    network: nn.Module
    window: Axes
    overlap: float
    mirror: tuple[int, ...]
    ctx: Context
    at_once: int = 1
    _ways: list[tuple[int, str]] = field(init=False)

    @classmethod
    def of(cls, state: State, options: UNet3DOptions, ctx: Context) -> Predictor:
        """Predicts by what was learned."""
        plan = Plan.of(state)
        network = build(plan, len(ctx.classes))
        load_weights(network, state, WEIGHTS)
        return cls(
            network.to(ctx.device).eval(),
            plan.patch,
            options.overlap,
            options.mirror_axes if options.mirror_predictions else (),
            ctx,
            at_once=1 if ctx.device == "cpu" else plan.batch,
        )

    def __post_init__(self) -> None:
        halves = [self.at_once >> n for n in range(self.at_once.bit_length())]
        self._ways = [*((count, self.ctx.device) for count in halves), (1, "cpu")]

    @torch.inference_mode()
    def __call__(self, image: FloatArray) -> FloatArray:
        """Probabilities, float32 ``(1 + classes, I, J, K)``, of an image ``(I, J, K)``.

        Raises:
            torch.OutOfMemoryError: even one window is too much.
        """
        tensor = torch.from_numpy(z_score(image))[None, None]
        for tried, (count, blended_on) in enumerate(self._ways):
            probabilities = self._blend(tensor, count, blended_on)
            if probabilities is not None:
                if tried:
                    self._settle(tried)
                return probabilities
        raise torch.OutOfMemoryError("one window of a prediction does not fit into memory")

    def _blend(self, tensor: Tensor, count: int, blended_on: str) -> FloatArray | None:
        """Weighted means over windows, or None if memory is too small."""
        try:
            blended = sliding_window_inference(
                tensor.to(blended_on),
                self.window,
                sw_batch_size=count,
                predictor=self._probabilities,
                overlap=self.overlap,
                mode="gaussian",
                sigma_scale=BLUR,
                sw_device=self.ctx.device,
                device=blended_on,
            )
            total = blended[0].clamp_min(0)
            return (total / total.sum(0, keepdim=True)).cpu().numpy()  # type: ignore[no-any-return]
        except RuntimeError as error:  # torch.OutOfMemoryError, and what cuDNN raises in its place
            if not is_out_of_memory(error):
                raise
            return None

    def _settle(self, tried: int) -> None:
        """Continue with the setting that worked."""
        self._ways = self._ways[tried:]
        count, blended_on = self._ways[0]
        self.ctx.log(
            f"out of memory in prediction: continued with {count} window(s) at a time,"
            f" blended on {blended_on}"
        )

    def _probabilities(self, patches: Tensor) -> Tensor:
        flips = _all_flips(self.mirror)
        total = torch.zeros((), device=patches.device)
        for axes in flips:
            with autocast(self.ctx.device, self.ctx.precision, fp16_is_safe=True):
                scores = self.network(patches.flip(axes))
            total = total + scores.float().softmax(1).flip(axes)
        return total / len(flips)


def agreement(predictor: Predictor, cohort: Cohort, ctx: Context) -> dict[str, float]:
    """Mean Dice of every class with the labels of the cases that have it.

    It is called agreement, because these labels may be pseudo-labels.
    """
    scores: dict[str, list[float]] = {name: [] for name in ctx.classes}
    for pair in cohort.pairs():
        found = predictor(pair.image.data[0]).argmax(axis=0)
        for name, label in ctx.classes.items():
            truth = pair.labels == label
            if truth.any():
                scores[name].append(dice(found == label, truth))
    return {f"agreement_{name}": float(np.mean(row)) for name, row in scores.items() if row}


def _all_flips(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All subsets of the axes, counted with batch and channel."""
    shifted = [axis + 2 for axis in axes]
    return [flip for n in range(len(axes) + 1) for flip in itertools.combinations(shifted, n)]
