"""Structures in the training: a network that must find them in translations, and their edges.

A translator that learns from images alone may erase what is rare. A second network that outlines
structures in translated slices, where the labels of the source still hold, makes that expensive
(COSMOS, MSF-Net and others, CrossMoDA 2021 and 2022; Vandy365, CrossMoDA 2023).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossmod_cyclegan.resampling import reflected

WIDTH = 16
LEVELS = 3
SMOOTH = 1.0
STRUCTURE_EDGE = 10.0
"""Weight of the edges of structures, relative to all others."""

SOBEL = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))


class Outliner(nn.Module):
    """A small 2D U-Net; a hidden cue that it could agree on with a generator has little room.

    Args:
        classes: structures besides the background.
        width: channels at full resolution, doubled at each of two halvings.
    """

    def __init__(self, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        widths = [width << level for level in range(LEVELS)]
        self.down = nn.ModuleList(
            _two_layers(before, after) for before, after in zip([1, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            _two_layers(fine + coarse, fine) for fine, coarse in pairwise(widths)
        )
        self.scores = nn.Conv2d(width, 1 + classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores ``(B, 1 + classes, H, W)`` of slices ``(B, 1, H, W)`` in [-1, 1]."""
        height, width = images.shape[-2:]
        multiple = 1 << (LEVELS - 1)
        images = reflected(images, (0, -height % multiple), (0, -width % multiple))
        seen = []
        for level, layers in enumerate(self.down):
            images = layers(_halved(images) if level else images)
            seen.append(images)
        images = seen.pop()
        for fine, layers in zip(reversed(seen), reversed(self.up), strict=True):
            images = layers(torch.cat([fine, _doubled(images)], dim=1))
        result: Tensor = self.scores(images)[..., :height, :width]
        return result


def _two_layers(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (before, after):
        layers += [nn.Conv2d(given, after, 3, padding=1), nn.InstanceNorm2d(after, affine=True)]
        layers.append(nn.LeakyReLU(0.01, inplace=True))
    return nn.Sequential(*layers)


def _halved(images: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; the gradient is deterministic on GPUs, too."""
    parts = [images[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return torch.stack(parts).mean(dim=0)


def _doubled(images: Tensor) -> Tensor:
    """Each pixel four times."""
    *first, height, width = images.shape
    wide = images[..., :, None, :, None].expand(*first, height, 2, width, 2)
    return wide.reshape(*first, 2 * height, 2 * width)


def outline_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy plus one minus the soft Dice of the structures that the batch shows.

    Args:
        scores: ``(B, 1 + classes, H, W)``.
        labels: uint8 ``(B, H, W)``.
    """
    logarithms = functional.log_softmax(scores.float(), dim=1)
    classes = torch.arange(scores.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = (labels[:, None] == classes).to(logarithms.dtype)
    entropy = -(logarithms * truth).sum() / labels.numel()
    found, truth = logarithms[:, 1:].exp(), truth[:, 1:]
    sizes = truth.sum((0, 2, 3))
    common = (found * truth).sum((0, 2, 3))
    dice = (2 * common + SMOOTH) / (found.sum((0, 2, 3)) + sizes + SMOOTH)
    shown = (sizes > 0).to(dice.dtype)
    missed: Tensor = ((1 - dice) * shown).sum() / shown.sum().clamp_min(1)
    return entropy + missed


def edge_loss(images: Tensor, translated: Tensor, labels: Tensor | None) -> Tensor:
    """Mean absolute difference of the Sobel magnitudes of images and their translations.

    Args:
        images: ``(B, 1, H, W)`` in [-1, 1].
        translated: the same slices in the other modality.
        labels: uint8 ``(B, H, W)``, whose borders weigh ten times as much; None without any.
    """
    difference = (_slope(images) - _slope(translated)).abs()
    if labels is None:
        return difference.mean()
    weights = 1 + (STRUCTURE_EDGE - 1) * _borders(labels)
    return (weights * difference).sum() / weights.sum()


def _slope(images: Tensor) -> Tensor:
    kernel = torch.tensor(SOBEL).to(images.device)
    kernels = torch.stack([kernel, kernel.T])[:, None] / 8  # per pixel
    slopes = functional.conv2d(reflected(images.float(), (1, 1), (1, 1)), kernels)
    return (slopes.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def _borders(labels: Tensor) -> Tensor:
    """1 on both sides of the border of a structure, else 0, ``(B, 1, H, W)``."""
    shown = labels[:, None].float()
    highest = functional.max_pool2d(shown, 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-shown, 3, stride=1, padding=1)
    return (highest != lowest).float()
