"""The 3D U-Net of nnU-Net, built by MONAI, and its fast form for inference on a CPU."""

from __future__ import annotations

from dataclasses import asdict

import torch
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from crossmod import State
from crossmod.torch import weights_of
from crossmod_unet3d.plan import PLAN, Plan

WEIGHTS = "network."


class UNet(DynUNet):  # type: ignore[misc]
    """A U-Net that can show the class scores of every decoder stage."""

    def levels(self, images: Tensor) -> list[Tensor]:
        """Class scores at full and at lower resolutions, finest first.

        Unlike MONAI's own training output, coarse scores are not enlarged: that would cost more
        than the layers that made them.

        Args:
            images: ``(B, 1, I, J, K)``.

        Returns:
            Scores ``(B, 1 + classes, I / s, J / s, K / s)`` for the stages that are supervised.
        """
        finest = self.output_block(self.skip_layers(images))
        return [finest, *self.heads] if self.deep_supervision else [finest]


def build(plan: Plan, classes: int) -> UNet:
    """The network of a plan for ``classes`` classes besides background.

    All decoder stages are supervised but the coarsest, as in nnU-Net.
    """
    heads = len(plan.strides) - 3
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1 + classes,
        kernel_size=plan.kernels,
        strides=plan.strides,
        upsample_kernel_size=plan.strides[1:],
        filters=plan.channels,
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=heads > 0,
        deep_supr_num=max(heads, 1),
    )


def learned(network: UNet, plan: Plan) -> State:
    """What prediction needs: weights and plan."""
    return State(weights_of(network, WEIGHTS), {PLAN: asdict(plan)})


def for_inference(network: nn.Module, device: str) -> nn.Module:
    """The same function, in the layout that is fastest on the device.

    On CPUs, instance norm is slow in every layout; group norm with one group per channel is the
    same function and, with channels last, makes inference up to twice as fast.
    """
    network.eval()
    if device != "cpu":
        return network
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.InstanceNorm3d):
                setattr(parent, name, _as_group_norm(child))
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def _as_group_norm(norm: nn.InstanceNorm3d) -> nn.GroupNorm:
    group = nn.GroupNorm(norm.num_features, norm.num_features, eps=norm.eps)
    group.load_state_dict(norm.state_dict())
    return group
