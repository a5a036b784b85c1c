"""The generator, the discriminator and the projector of CUT.

Resolution changes without aliasing: images are blurred where it is halved or doubled (Zhang 2019,
Making convolutional networks shift-invariant again). Everything here has a gradient whose sums are
added in a fixed order, so that `determinism = "exact"` holds on GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossmod import Context, FloatArray
from crossmod.torch import InstanceNorm, autocast

if TYPE_CHECKING:
    from crossmod_cut import CUTOptions

SLICES_AT_ONCE = 8
GAIN = 0.02


def extended(images: Tensor, width: int, *, mirrored: bool = True) -> Tensor:
    """Continue images ``(B, C, H, W)`` on all sides.

    Args:
        images: sides longer than the width.
        width: pixels on each side.
        mirrored: continue by the mirror image, the border itself once; else by the border.
    """
    for axis in (-2, -1):
        size = images.shape[axis]
        if mirrored:
            before = images.narrow(axis, 1, width).flip(axis)
            after = images.narrow(axis, size - 1 - width, width).flip(axis)
        else:
            before = images.narrow(axis, 0, 1).repeat_interleave(width, axis)
            after = images.narrow(axis, size - 1, 1).repeat_interleave(width, axis)
        images = torch.cat([before, images, after], axis)
    return images


class Blur(nn.Module):
    """A binomial filter of every channel by itself.

    Args:
        taps: weights along one axis, before they are scaled to a sum of 1.
    """

    def __init__(self, *taps: float) -> None:
        super().__init__()
        line = torch.tensor(taps) / sum(taps)
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)

    def kernels(self, features: Tensor) -> Tensor:
        """One for each channel ``(C, 1, h, w)``."""
        kernel: Tensor = self.get_buffer("kernel").to(features.dtype)
        return kernel.expand(features.shape[1], 1, -1, -1)


class Halving(Blur):
    """Halves the resolution: every second pixel of the blurred image, the first included."""

    def __init__(self) -> None:
        super().__init__(1, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``."""
        kernels = self.kernels(features)
        return functional.conv2d(extended(features, 1), kernels, stride=2, groups=len(kernels))


class Doubling(Blur):
    """Doubles the resolution: pixels spread out, and blurred."""

    def __init__(self) -> None:
        super().__init__(1, 3, 3, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, 2 H, 2 W)``."""
        kernels = 4 * self.kernels(features)  # three of four pixels are new
        padded, channels = extended(features, 1, mirrored=False), len(kernels)
        larger = functional.conv_transpose2d(padded, kernels, stride=2, padding=2, groups=channels)
        return larger[..., 1:-1, 1:-1]


class Extension(nn.Module):
    """Continues images by their mirror image.

    Args:
        width: pixels on each side.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, H + 2 width, W + 2 width)``."""
        return extended(images, self.width)


class ResidualBlock(nn.Module):
    """Adds two 3x3 convolutions of the input to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Extension(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels, slope=0),
            Extension(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        result: Tensor = features + self.layers(features)
        return result


class Generator(nn.Module):
    """Translates slices: a 7x7 convolution, halvings, residual blocks, doublings, another 7x7.

    The first half is also the encoder whose features are contrasted.

    Args:
        channels: channels at full resolution.
        blocks: residual blocks at the lowest resolution.
        downsamplings: halvings of the resolution, each doubling the channels.
    """

    def __init__(self, channels: int, blocks: int, downsamplings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Extension(3)]
        self.tapped = [(0, 1)]
        """Layers whose outputs are contrasted, and their channels."""
        layers += [nn.Conv2d(1, channels, 7), InstanceNorm(channels, slope=0)]
        for _ in range(downsamplings):
            layers.append(nn.Conv2d(channels, 2 * channels, 3, padding=1))
            channels *= 2
            self.tapped.append((len(layers) - 1, channels))
            layers += [InstanceNorm(channels, slope=0), Halving()]
        for block in range(blocks):
            layers.append(ResidualBlock(channels))
            if block in (0, blocks // 2):
                self.tapped.append((len(layers) - 1, channels))
        for _ in range(downsamplings):
            layers += [Doubling(), nn.Conv2d(channels, channels // 2, 3, padding=1)]
            channels //= 2
            layers.append(InstanceNorm(channels, slope=0))
        layers += [Extension(3), nn.Conv2d(channels, 1, 7), nn.Tanh()]
        self.layers = nn.ModuleList(layers)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Translate ``(B, 1, H, W)`` in [-1, 1]; the same shape and range."""
        features = images
        for layer in self.layers:
            features = layer(features)
        return features[..., : images.shape[-2], : images.shape[-1]]

    def encode(self, images: Tensor) -> list[Tensor]:
        """The features of ``(B, 1, H, W)`` in the tapped layers, ``(B, C, h, w)`` each."""
        found, features = [], images
        last = self.tapped[-1][0]
        wanted = {number for number, _ in self.tapped}
        for number, layer in enumerate(self.layers[: last + 1]):
            features = layer(features)
            if number in wanted:
                found.append(features)
        return found


class Discriminator(nn.Module):
    """PatchGAN without aliasing: judges each patch of a slice.

    Args:
        channels: channels after the first layer; doubled per layer, at most eightfold.
        layers: halvings.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        modules: list[nn.Module] = [
            nn.Conv2d(1, channels, 4, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            Halving(),
        ]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            modules += [nn.Conv2d(width, wider, 4, padding=1), InstanceNorm(wider, slope=0.2)]
            modules += [Halving()] if layer < layers else []
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*modules)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Score ``(B, 1, H, W)``: 1 is real, 0 is translated; ``(B, 1, h, w)``, unbounded."""
        result: Tensor = self.layers(images)
        return result


class Projector(nn.Module):
    """Makes vectors of length 1 from features at places of a slice: two linear layers per tap.

    Args:
        channels: of the features, for each tap.
        length: of the vectors.
    """

    def __init__(self, channels: Sequence[int], length: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(one, length), nn.ReLU(), nn.Linear(length, length))
            for one in channels
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, GAIN)
                nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Map features ``(B, C, h, w)`` at places ``(N,)`` to vectors ``(B, N, length)``, fp32."""
        found = []
        for head, one, place in zip(self.heads, features, places, strict=True):
            vectors: Tensor = head(one.flatten(2)[:, :, place].transpose(1, 2)).float()
            found.append(functional.normalize(vectors, dim=-1, eps=1e-7))
        return found


def generator_of(options: CUTOptions) -> Generator:
    """The generator that the options ask for."""
    return Generator(options.base_channels, options.blocks, options.downsamplings)


def translate_volume(generator: Generator, volume: FloatArray, ctx: Context) -> FloatArray:
    """Translate the slices of one volume ``(I, J, K)`` in [0, 1]; the same shape and range."""
    slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]
    translated = []
    with torch.inference_mode(), autocast(ctx.device, ctx.precision):
        for batch in torch.split(slices, SLICES_AT_ONCE):
            translated.append(generator(batch.to(ctx.device) * 2 - 1).float().cpu())
    result = torch.cat(translated)[:, 0].add_(1).div_(2).clamp_(0, 1)
    return np.ascontiguousarray(np.moveaxis(result.numpy(), 0, 2))


def _initialize(module: nn.Module) -> None:
    """Weights after Glorot and Bengio, times 0.02; biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight, gain=GAIN)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
