"""Instance normalization, and the activation after it, in the layout that a convolution leaves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5

SMALL = 1024
"""Pixels or voxels below which torch's group normalization reads channels one by one from memory in
which they lie side by side, and takes 20 times as long."""


class InstanceNorm(nn.Module):
    """Normalizes every channel of every item over its pixels or voxels, then applies an activation.

    The function of `torch.nn.InstanceNorm2d` or ``3d`` followed by `torch.nn.LeakyReLU`, and its
    names of weights. On a CPU torch's own first copies features that lie channels last, and its
    in-place activation then copies them again on the way back; here they stay where they are.
    Items are normalized one by one, so that an item has the same bits in every batch.

    Args:
        channels: of the features.
        affine: whether a factor and an offset are learned for each channel.
        slope: of the activation for negative values: 0 is ReLU, 1 none.
    """

    def __init__(self, channels: int, *, affine: bool = False, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = slope
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, ...)``, two or three axes of space, to the same shape, layout and format.

        Raises:
            ValueError: an item has one pixel or voxel, so that nothing is left of it.
        """
        return _activated(self._normalized(features), self.slope)

    def _normalized(self, features: Tensor) -> Tensor:
        affine = self.weight, self.bias
        if features.device.type != "cpu":
            return functional.instance_norm(features, None, None, *affine, eps=EPSILON)
        size = features[0, 0].numel()
        if size >= SMALL and not torch.is_grad_enabled():  # faster there, but not on the way back
            return functional.group_norm(features, features.shape[1], *affine, eps=EPSILON)
        # Over a batch of one, batch normalization is instance normalization.
        items = [
            functional.batch_norm(item, None, None, *affine, training=True, eps=EPSILON)
            for item in (torch.split(features, 1) if len(features) > 1 else [features])
        ]
        return torch.cat(items) if len(items) > 1 else items[0]


def _activated(features: Tensor, slope: float) -> Tensor:
    """In place, which costs no memory: no gradient needs the values from before."""
    if slope == 1:
        return features
    return functional.leaky_relu_(features, slope) if slope else functional.relu_(features)
