"""Prediction with a sliding window, and how well it agrees with labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crossmod import Cohort, Context, FloatArray, State, dice
from crossmod.torch import autocast, is_out_of_memory, load_weights, side_by_side
from crossmod_unet3d.networks import WEIGHTS, build
from crossmod_unet3d.plan import Axes, Plan
from crossmod_unet3d.sampling import z_score
from crossmod_unet3d.windows import Place, importance, padded, places

if TYPE_CHECKING:
    from crossmod_unet3d import UNet3DOptions

LANES = 4  # windows that pass the network side by side on a CPU: each takes memory of its own

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Piece = tuple[list[Place], tuple[int, ...]]
"""Windows that pass the network together, and the axes along which they are flipped."""


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
        with torch.device("meta"), _Undrawn():  # weights that are replaced need no numbers
            network = build(plan, len(ctx.classes))
        load_weights(network, state, WEIGHTS)
        _cast_once(network, ctx.precision)
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
        volume, within = padded(torch.from_numpy(z_score(image)), self.window)
        for tried, (count, blended_on) in enumerate(self._ways):
            probabilities = self._blend(volume, count, blended_on)
            if probabilities is not None:
                if tried:
                    self._settle(tried)
                return np.ascontiguousarray(probabilities[(slice(None), *within)])
        raise torch.OutOfMemoryError("one window of a prediction does not fit into memory")

    def _blend(self, volume: Tensor, count: int, blended_on: str) -> FloatArray | None:
        """Weighted means over windows and flips, or None if memory is too small.

        They are added in one order, however many of them are computed side by side.
        """
        found = places(volume.shape, self.window, self.overlap)
        groups = [found[first : first + count] for first in range(0, len(found), count)]
        pieces = list(itertools.product(groups, _all_flips(self.mirror)))
        try:
            volume = volume.to(blended_on)
            weights = importance(self.window).to(self.ctx.device)
            work = partial(self._weighted, volume, weights)
            total = torch.zeros((), device=blended_on)
            weighted = side_by_side(work, pieces, self.ctx, most=LANES, split=True)
            for (group, _), shares in zip(pieces, weighted, strict=True):
                if not total.ndim:
                    total = total.new_zeros((shares.shape[1], *volume.shape))
                for place, one in zip(group, shares, strict=True):
                    total[(slice(None), *place)] += one.to(blended_on)
            # The shares of a voxel add up to 1 in every window: their sum is that of its weights.
            total /= total.sum(0)
            return total.cpu().numpy()
        except RuntimeError as error:  # torch.OutOfMemoryError, and what cuDNN raises in its place
            if not is_out_of_memory(error):
                raise
            return None

    def _weighted(self, volume: Tensor, weights: Tensor, piece: Piece) -> Tensor:
        """Probabilities of some windows, ``(B, 1 + classes, I, J, K)``, times their weights."""
        group, axes = piece
        device, precision = self.ctx.device, self.ctx.precision
        with torch.inference_mode(), autocast(device, precision, fp16_is_safe=True):
            patches = torch.stack([volume[place] for place in group])[:, None].to(device)
            scores = self.network(patches.flip(axes))
            shares: Tensor = scores.float().softmax(1).flip(axes).mul_(weights)
        return shares

    def _settle(self, tried: int) -> None:
        """Continue with the setting that worked."""
        self._ways = self._ways[tried:]
        count, blended_on = self._ways[0]
        self.ctx.log(
            f"out of memory in prediction: continued with {count} window(s) at a time,"
            f" blended on {blended_on}"
        )


class _Undrawn(TorchFunctionMode):
    """In this block, tensors that are to be filled with random numbers stay as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def agreement(predictor: Predictor, cohort: Cohort, ctx: Context) -> dict[str, float]:
    """Mean Dice of every class with the labels of the cases that have it.

    It is called agreement, because these labels may be pseudo-labels.
    """
    scores: dict[str, list[float]] = {name: [] for name in ctx.classes}
    for pair in cohort.pairs():
        seen = ... if pair.ignore is None else ~pair.ignore
        found = predictor(pair.image.data[0]).argmax(axis=0)[seen]
        for name, label in ctx.classes.items():
            truth = pair.labels[seen] == label
            if truth.any():
                scores[name].append(dice(found == label, truth))
    return {f"agreement_{name}": float(np.mean(row)) for name, row in scores.items() if row}


def _cast_once(network: nn.Module, precision: str) -> None:
    """Keep the weights of convolutions in the format that `autocast` gives them in every window."""
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d) and precision in HALVES:
            part.to(HALVES[precision])


def _all_flips(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All subsets of the axes, counted with batch and channel."""
    shifted = [axis + 2 for axis in axes]
    return [flip for n in range(len(axes) + 1) for flip in itertools.combinations(shifted, n)]
