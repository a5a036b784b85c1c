"""The generator and the discriminator of one scale of SinGAN.

Shaham et al. 2019 normalize by BatchNorm over a batch of one image in training. A discriminator
never leaves training, where that is instance normalization. A trained generator normalizes by the
running statistics of the slice it learned, whatever image it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 5


class SliceNorm(nn.BatchNorm2d):
    """BatchNorm of a batch of one slice, for several slices at once.

    In training each slice is normalized by its own mean and variance, and the running statistics
    (momentum 0.1) take in one slice after the other. In evaluation they normalize all slices.
    BatchNorm's ``num_batches_tracked``, for statistics without momentum, is stored and stays 0.

    Attributes:
        counted: slices at the start of a batch that the statistics have taken in before.
    """

    momentum: float
    counted = 0

    def forward(self, slices: Tensor) -> Tensor:
        """Normalize ``(B, C, H, W)``."""
        if not self.training:
            return super().forward(slices)
        if len(slices) == 1:
            return self._normalize(slices, known=self.counted > 0)
        ones = enumerate(torch.split(slices, 1))
        return torch.cat([self._normalize(one, known=i < self.counted) for i, one in ones])

    def _normalize(self, one: Tensor, *, known: bool) -> Tensor:
        mean, var = (None, None) if known else (self.running_mean, self.running_var)
        return functional.batch_norm(
            one,
            mean,
            var,
            self.weight,
            self.bias,
            training=True,
            momentum=self.momentum,
            eps=self.eps,
        )


def instance_norm(channels: int) -> nn.Module:
    """The norm of a network that is always in training."""
    return SliceNorm(channels, track_running_stats=False)


def layers(width: int, kernel: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Five convolutions from one channel to one, without padding; the last one is bare."""
    found: list[nn.Module] = []
    for inputs in (1, *[width] * (LAYERS - 2)):
        block = [nn.Conv2d(inputs, width, kernel), norm(width), nn.LeakyReLU(0.2, inplace=True)]
        found.append(nn.Sequential(*block))
    return nn.Sequential(*found, nn.Conv2d(width, 1, kernel))


class Generator(nn.Module):
    """Adds detail to an image that was enlarged from the scale below."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width, self.kernel = width, kernel
        self.margin = LAYERS * (kernel - 1) // 2
        self.layers = layers(width, kernel, SliceNorm)

    def forward(self, noisy: Tensor, image: Tensor) -> Tensor:
        """Return image + tanh(network(noisy)).

        Args:
            noisy: the image plus weighted noise, ``(B, 1, H, W)``.
            image: the enlarged image, ``(B, 1, H, W)`` in [-1, 1].
        """
        # Zeros around the image instead of inside the layers: noise reaches the border undimmed.
        detail = self.layers(functional.pad(noisy, [self.margin] * 4))
        return image + torch.tanh(detail)

    @contextmanager
    def counted(self, slices: int) -> Iterator[None]:
        """Within, the running statistics pass over the first ``slices`` of every batch."""
        norms = [module for module in self.modules() if isinstance(module, SliceNorm)]
        for norm in norms:
            norm.counted = slices
        try:
            yield
        finally:
            for norm in norms:
                norm.counted = 0


class Discriminator(nn.Module):
    """Tells patches of 11 x 11 pixels (kernel 3) of real and generated images apart."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.layers = layers(width, kernel, instance_norm)

    def forward(self, image: Tensor) -> Tensor:
        """Score an image ``(B, 1, H, W)``: a map without the margins, higher is more real."""
        scores: Tensor = self.layers(image)
        return scores


def initialize(network: nn.Module) -> None:
    """Draw weights as the authors do: N(0, 0.02) for convolutions, N(1, 0.02) for norms."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, SliceNorm):
            nn.init.normal_(module.weight, 1.0, 0.02)
