"""The image pyramid: the sides of every scale, and resizing between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

Side = tuple[int, int]


def ratios_of(shape: Side, scale_factor: float, min_size: int, max_size: int) -> list[float]:
    """The size of every scale relative to the training image, coarsest first.

    The number of scales follows from the wanted factor; the factor is then corrected so that the
    shorter side of the coarsest scale is ``min_size`` exactly (Shaham et al. 2019, official code).

    Args:
        shape: height and width of the training image, pixels.
        scale_factor: wanted ratio between neighboring scales, below 1.
        min_size: shorter side at the coarsest scale, pixels.
        max_size: longer side at the finest scale, pixels; larger images are shrunk to it.
    """
    shrink = min(1.0, max_size / max(shape))
    wanted = math.log(scale_factor)
    last = math.ceil(math.log(min_size / min(shape)) / wanted) + 1
    last -= math.ceil(math.log(shrink) / wanted)
    factor = float((min_size / (min(shape) * shrink)) ** (1 / last))
    return [shrink * factor ** (last - scale) for scale in range(last + 1)]


def sides_of(shape: Side, ratios: list[float]) -> list[Side]:
    """Height and width, pixels, of an image of any shape at every scale."""
    height, width = shape
    return [(max(1, round(height * r)), max(1, round(width * r))) for r in ratios]


def through_eight_bits(images: Tensor) -> Tensor:
    """Cut images in [-1, 1] to 256 levels, as the official code does before it resizes."""
    levels = ((images.clamp(-1, 1) + 1) / 2 * 255).floor()
    return levels / 255 * 2 - 1


def resize(images: Tensor, side: Side) -> Tensor:
    """Bring images ``(B, 1, H, W)`` in [-1, 1] to another size: cubic, anti-aliased, clamped."""
    if images.shape[-2:] == torch.Size(side):
        return images
    resized = functional.interpolate(
        images.float(), side, mode="bicubic", antialias=True, align_corners=False
    )
    return resized.clamp(-1, 1)
