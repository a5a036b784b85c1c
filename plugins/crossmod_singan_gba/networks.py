"""The generator and the discriminator of one scale of SinGAN.

Shaham et al. 2019 normalize by BatchNorm over a batch of one image, in training and after it. That
is instance normalization; written as such, the slices of a volume can pass as one batch without
influencing each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 5


def block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without padding, normalization, LeakyReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.LeakyReLU(0.2, inplace=True),
    )


def layers(width: int, kernel: int) -> nn.Sequential:
    """Five convolutions from one channel to one; the last one is bare."""
    blocks = [block(1 if i == 0 else width, width, kernel) for i in range(LAYERS - 1)]
    return nn.Sequential(*blocks, nn.Conv2d(width, 1, kernel))


class Generator(nn.Module):
    """Adds detail to an image that was enlarged from the scale below."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.margin = LAYERS * (kernel - 1) // 2
        self.layers = layers(width, kernel)

    def forward(self, noisy: Tensor, image: Tensor) -> Tensor:
        """Return image + tanh(network(noisy)).

        Args:
            noisy: the image plus weighted noise, ``(B, 1, H, W)``.
            image: the enlarged image, ``(B, 1, H, W)`` in [-1, 1].
        """
        # Zeros around the image instead of inside the layers: noise reaches the border undimmed.
        detail = self.layers(functional.pad(noisy, [self.margin] * 4))
        return image + torch.tanh(detail)


class Discriminator(nn.Module):
    """Tells patches of 11 x 11 pixels (kernel 3) of real and generated images apart."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.layers = layers(width, kernel)

    def forward(self, image: Tensor) -> Tensor:
        """Score an image ``(B, 1, H, W)``: a map without the margins, higher is more real."""
        scores: Tensor = self.layers(image)
        return scores


def initialize(network: nn.Module) -> None:
    """Draw weights as the authors do: N(0, 0.02) for convolutions, N(1, 0.02) for norms."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.InstanceNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
