"""The generator and the discriminator of CycleGAN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossmod import Context, FloatArray
from crossmod.torch import InstanceNorm, autocast, channels_last
from crossmod_cyclegan.resampling import Doubling, Reflection, reflected

SLICES_AT_ONCE = 8


class Generator(nn.Module):
    """Translates slices (Zhu et al. 2017, appendix 7.2; after Johnson et al. 2016).

    A 7x7 convolution, strided convolutions down, residual blocks, upsampling, a 7x7 convolution.
    Borders are reflected; every convolution but the last is followed by instance normalization
    without affine parameters.

    Args:
        channels: channels at full resolution.
        blocks: residual blocks at the lowest resolution.
        downsamplings: halvings of the resolution, each doubling the channels.
        upsampling: "transposed" (the paper) or "resize" (bilinear, then a convolution).
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 9,
        downsamplings: int = 2,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.multiple = 2**downsamplings
        layers: list[nn.Module] = [
            Reflection(3),
            *_normalized(nn.Conv2d(1, channels, 7, bias=False)),
        ]
        for _ in range(downsamplings):
            wider = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
            layers += _normalized(wider)
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(downsamplings):
            layers += _upsampling(channels, upsampling)
            channels //= 2
        layers += [Reflection(3), ToOneChannel(channels, 1, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)
        self.register_load_state_dict_pre_hook(_drop_biases)

    def forward(self, images: Tensor) -> Tensor:
        """Translate ``(B, 1, H, W)`` in [-1, 1]; sides from 2 * 2**downsamplings pixels."""
        height, width = images.shape[-2:]
        rows, columns = -height % self.multiple, -width % self.multiple
        padded = reflected(images, (0, rows), (0, columns)) if rows or columns else images
        result: Tensor = self.layers(channels_last(padded))[..., :height, :width]
        return result


class ResidualBlock(nn.Module):
    """Adds two 3x3 convolutions of the input to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Reflection(1),
            *_normalized(nn.Conv2d(channels, channels, 3, bias=False)),
            Reflection(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            InstanceNorm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        result: Tensor = self.layers(features).add_(features)
        return result


class ToOneChannel(nn.Conv2d):
    """A convolution with one output channel, computed three times faster on CPUs.

    CPUs compute 8 or 16 output channels at a time. So the columns of the kernel become channels of
    their own, and are then shifted into place and summed.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, 1, H - k + 1, W - k + 1)`` with a kernel of k x k."""
        columns = self.weight[0].permute(2, 0, 1).unsqueeze(-1)
        parts = functional.conv2d(features, columns)
        width = parts.shape[-1] - len(columns) + 1
        batch, channel, row, column = parts.stride()
        shape, stride = (*parts.shape[:3], width), (batch, channel + column, row, column)
        assert self.bias is not None
        return parts.as_strided(shape, stride).sum(dim=1, keepdim=True) + self.bias


class Discriminator(nn.Module):
    """PatchGAN: judges each patch of a slice (Isola et al. 2017).

    4x4 convolutions with stride 2, then two with stride 1; no normalization in the first and the
    last layer. Three strided layers see patches of 70 x 70 pixels.

    Args:
        channels: channels after the first layer; doubled per layer, at most eightfold.
        layers: strided convolutions.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        modules: list[nn.Module] = [
            nn.Conv2d(1, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            convolution = nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False)
            modules += _normalized(convolution, 0.2)
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*modules)
        self.apply(_initialize)
        self.register_load_state_dict_pre_hook(_drop_biases)

    def forward(self, images: Tensor) -> Tensor:
        """Score ``(B, 1, H, W)``: 1 is real, 0 is translated; ``(B, 1, h, w)``, unbounded."""
        result: Tensor = self.layers(images)
        return result


def translate_volume(generator: Generator, volume: FloatArray, ctx: Context) -> FloatArray:
    """Translate the slices of one volume ``(I, J, K)`` in [0, 1]; the same shape and range."""
    slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]
    translated = []
    with torch.inference_mode(), autocast(ctx.device, ctx.precision):
        for batch in torch.split(slices, SLICES_AT_ONCE):
            translated.append(generator(batch.to(ctx.device) * 2 - 1).float().cpu())
    result = torch.cat(translated)[:, 0].add_(1).div_(2).clamp_(0, 1)
    return np.ascontiguousarray(np.moveaxis(result.numpy(), 0, 2))


def _normalized(convolution: nn.Conv2d | nn.ConvTranspose2d, slope: float = 0.0) -> list[nn.Module]:
    """A convolution, instance normalization and an activation.

    The last has no place of its own but in the numbering of layers, by which weights are stored.
    """
    return [convolution, InstanceNorm(convolution.out_channels, slope=slope), nn.Identity()]


def _upsampling(channels: int, kind: str) -> list[nn.Module]:
    half = channels // 2
    if kind == "transposed":
        return _normalized(
            nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1, bias=False)
        )
    return [Doubling(), Reflection(1), *_normalized(nn.Conv2d(channels, half, 3, bias=False))]


def _initialize(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _drop_biases(network: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Read models from before: they had biases before normalization, which takes them out again."""
    own = network.state_dict(prefix=prefix)
    for name in [name for name in state if name.startswith(prefix) and name not in own]:
        if name.endswith(".bias"):
            del state[name]
