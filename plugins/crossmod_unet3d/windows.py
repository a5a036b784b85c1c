"""Windows that cover a volume, and how much their voxels weigh where they overlap.

Overlap, positions and weights are nnU-Net's and those of MONAI's `sliding_window_inference`, but
that the last window of an axis ends with the volume, as in MONAI.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from crossmod_unet3d.plan import Axes

BLUR = 0.125  # standard deviation of the weights, as a share of the window's edge
LEAST = 1e-3  # weight of a corner at least

Place = tuple[slice, slice, slice]


def places(shape: Sequence[int], window: Axes, overlap: float) -> list[Place]:
    """Where the windows lie that cover a volume.

    Args:
        shape: voxels of the volume along I, J, K, at least those of a window.
        window: voxels of a window.
        overlap: share of a window that neighbors have in common, at least.
    """
    starts = []
    for size, edge in zip(shape, window, strict=True):
        last, step = size - edge, max(int(edge * (1 - overlap)), 1)
        starts.append([*range(0, last, step), last])
    return [
        (slice(i, i + window[0]), slice(j, j + window[1]), slice(k, k + window[2]))
        for i, j, k in product(*starts)
    ]


def importance(window: Axes) -> Tensor:
    """The weights of the voxels of a window, ``(I, J, K)``: a Gaussian, 1 in the middle."""
    weights = torch.ones(())
    for edge in window:
        steps = torch.arange(edge) - (edge - 1) / 2
        weights = weights[..., None] * torch.exp(steps**2 / (-2 * (BLUR * edge) ** 2))
    return weights.clamp_min(max(float(weights.min()), LEAST))


def padded(volume: Tensor, window: Axes) -> tuple[Tensor, Place]:
    """A volume ``(I, J, K)`` with zeros around it, as large as a window at least.

    Returns:
        The larger volume, and where in it the volume lies.
    """
    missing = [max(edge - size, 0) for size, edge in zip(volume.shape, window, strict=True)]
    margins = [(rest // 2, rest - rest // 2) for rest in missing]
    within = [
        slice(before, before + size)
        for (before, _), size in zip(margins, volume.shape, strict=True)
    ]
    widths = [width for margin in reversed(margins) for width in margin]
    return functional.pad(volume, widths), (within[0], within[1], within[2])
