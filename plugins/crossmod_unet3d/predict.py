"""Prediction with a sliding window."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from crossmod.torch import autocast
from crossmod_unet3d.plan import Axes
from crossmod_unet3d.sampling import z_score

BLUR = 0.125  # of the window's edge: nnU-Net's weight of a prediction far from the middle


@dataclass(frozen=True)
class Predictor:
    """Class probabilities of whole volumes from a network that sees patches.

    Attributes:
        network: in evaluation mode, on the device.
        window: voxels of one patch.
        overlap: share that neighboring windows have in common.
        mirror: axes of the volume; predictions are averaged over all flips along them.
        device: "cpu", "cuda" or "cuda:1".
        precision: "fp32" or "bf16".
    """

    network: nn.Module
    window: Axes
    overlap: float
    mirror: tuple[int, ...]
    device: str
    precision: str

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Probabilities, float32 ``(1 + classes, I, J, K)``, of an image ``(I, J, K)``."""
        tensor = torch.from_numpy(z_score(image))[None, None].to(self.device)
        blended = sliding_window_inference(
            tensor,
            self.window,
            sw_batch_size=1,
            predictor=self._probabilities,
            overlap=self.overlap,
            mode="gaussian",
            sigma_scale=BLUR,
        )
        total = blended[0].clamp_min(0)
        return (total / total.sum(0, keepdim=True)).cpu().numpy()  # type: ignore[no-any-return]

    def _probabilities(self, patches: Tensor) -> Tensor:
        flips = _all_flips(self.mirror)
        total = torch.zeros((), device=patches.device)
        for axes in flips:
            with autocast(self.device, self.precision):
                scores = self.network(patches.flip(axes))
            total = total + scores.float().softmax(1).flip(axes)
        return total / len(flips)


def _all_flips(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All subsets of the axes, counted with batch and channel."""
    shifted = [axis + 2 for axis in axes]
    return [flip for n in range(len(axes) + 1) for flip in itertools.combinations(shifted, n)]
