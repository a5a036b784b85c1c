"""The 3D U-Net of nnU-Net."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from crossmod import State
from crossmod.torch import InstanceNorm, channels_last, weights_of
from crossmod_unet3d.plan import PLAN, Axes, Plan

WEIGHTS = "network."
SLOPE = 0.01  # of the activation
REPEATED = "skip_layers."  # where MONAI's DynUNet lists all weights once more


class Block(nn.Module):
    """Two convolutions, each followed by instance normalization and an activation."""

    def __init__(self, inputs: int, channels: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, channels, kernel, stride)
        self.conv2 = _convolution(channels, channels, kernel, (1, 1, 1))
        self.norm1 = InstanceNorm(channels, affine=True, slope=SLOPE)
        self.norm2 = InstanceNorm(channels, affine=True, slope=SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, I, J, K)`` to the channels of the block, a stride smaller."""
        features = self.norm1(self.conv1(features))
        result: Tensor = self.norm2(self.conv2(features))
        return result


class UpBlock(nn.Module):
    """Enlarges features, joins those of the encoder, and applies a block to both."""

    def __init__(self, inputs: int, channels: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        enlarging = nn.ConvTranspose3d(inputs, channels, stride, stride, bias=False)
        self.transp_conv = _named(enlarging)
        self.conv_block = Block(2 * channels, channels, kernel, (1, 1, 1))

    def forward(self, features: Tensor, skipped: Tensor) -> Tensor:
        """Map features to the shape of ``skipped``, which the encoder made at that resolution."""
        larger = self.transp_conv(features)
        result: Tensor = self.conv_block(torch.cat((larger, skipped), dim=1))
        return result


class Scores(nn.Module):
    """Class scores of each voxel."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = _named(nn.Conv3d(channels, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, C, I, J, K)`` to ``(B, outputs, I, J, K)``."""
        result: Tensor = self.conv(features)
        return result


class UNet(nn.Module):
    """The function of MONAI's DynUNet as nnU-Net configures it, with its names of weights.

    Args:
        plan: strides, kernels and channels.
        classes: classes besides background.
    """

    def __init__(self, plan: Plan, classes: int) -> None:
        super().__init__()
        stages = list(zip(pairwise(plan.channels), plan.kernels[1:], plan.strides[1:], strict=True))
        down = [Block(*channels, kernel, stride) for channels, kernel, stride in stages]
        up = [UpBlock(*channels[::-1], kernel, stride) for channels, kernel, stride in stages[::-1]]
        outputs, heads = 1 + classes, plan.channels[1 : len(stages) - 1]
        self.input_block = Block(1, plan.channels[0], plan.kernels[0], plan.strides[0])
        self.downsamples = nn.ModuleList(down[:-1])
        self.bottleneck = down[-1]
        self.upsamples = nn.ModuleList(up)
        self.output_block = Scores(plan.channels[0], outputs)
        self.deep_supervision_heads = nn.ModuleList([Scores(width, outputs) for width in heads])
        self.apply(_initialize)
        self.register_load_state_dict_pre_hook(_drop_repeated)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores ``(B, 1 + classes, I, J, K)`` of images ``(B, 1, I, J, K)``."""
        scores: Tensor = self.output_block(self._decoded(images)[-1])
        return scores

    def levels(self, images: Tensor) -> list[Tensor]:
        """Class scores at full and at lower resolutions, finest first.

        All decoder stages are supervised but the coarsest, as in nnU-Net.

        Args:
            images: ``(B, 1, I, J, K)``.

        Returns:
            Scores ``(B, 1 + classes, I / s, J / s, K / s)`` for the stages that are supervised.
        """
        stages = self._decoded(images)[::-1]
        heads = [self.output_block, *self.deep_supervision_heads]
        return [head(features) for head, features in zip(heads, stages, strict=False)]

    def _decoded(self, images: Tensor) -> list[Tensor]:
        """Features of all decoder stages, coarsest first."""
        encoded = [self.input_block(channels_last(images))]
        for block in self.downsamples:
            encoded.append(block(encoded[-1]))
        found = [self.bottleneck(encoded[-1])]
        for block, skipped in zip(self.upsamples, reversed(encoded), strict=True):
            found.append(block(found[-1], skipped))
        return found[1:]


def build(plan: Plan, classes: int) -> UNet:
    """The network of a plan for ``classes`` classes besides background."""
    return UNet(plan, classes)


def learned(network: UNet, plan: Plan) -> State:
    """What prediction needs: weights and plan."""
    return State(weights_of(network, WEIGHTS), {PLAN: asdict(plan)})


def _convolution(inputs: int, outputs: int, kernel: Axes, stride: Axes) -> nn.Sequential:
    padding = tuple(size // 2 for size in kernel)
    return _named(nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False))


def _named(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=convolution))


def _drop_repeated(network: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Read models that were stored with each weight under all names that MONAI gave it."""
    for name in [name for name in state if name.startswith(prefix + REPEATED)]:
        del state[name]


def _initialize(module: nn.Module) -> None:
    """Weights by He et al. 2015, biases 0."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
