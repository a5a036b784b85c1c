"""The image pyramid: the sides of every scale, and resizing between them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crossmod_singan_gba.scales import Side


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
