"""Training: loss, optimizer, schedule and loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossmod import Context
from crossmod.torch import (
    Means,
    Part,
    autocast,
    loss_scaler,
    resumable,
    side_by_side,
    sum_gradients,
)
from crossmod_unet3d.networks import UNet
from crossmod_unet3d.patches import Batch
from crossmod_unet3d.plan import Plan
from crossmod_unet3d.sampling import IGNORED

if TYPE_CHECKING:
    from crossmod_unet3d import UNet3DOptions

SMOOTH = 1e-5
MOMENTUM = 0.99
POWER = 0.9
LARGEST_GRADIENT = 12.0


def train(
    network: UNet,
    batch_of: Callable[[int], Batch],
    plan: Plan,
    options: UNet3DOptions,
    ctx: Context,
) -> Iterator[int]:
    """Train a network in place; yields the number of steps done after each report.

    Args:
        network: on the device of ``ctx``.
        batch_of: the batch of a step, counted from 0.
        plan: the plan of the network.
        options: what the recipe says.
        ctx: the run.

    Raises:
        CrossmodError: the loss is NaN or infinite.
    """
    optimizer = make_optimizer(network, options)
    network.train()
    scaler, means = loss_scaler(ctx.device, ctx.precision), Means()
    parts: dict[str, Part] = {
        "network": network,
        "optimizer": optimizer,
        "scaler": scaler,
        "means": means,
    }
    for number in resumable(ctx, options.steps, parts, label="train"):
        step, batch = number + 1, batch_of(number)
        set_rate(optimizer, options, number)
        optimizer.zero_grad(set_to_none=True)  # before the activations take their memory
        loss = differentiate(network, batch, plan, options.batch_dice, scaler, ctx)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        scaler.step(optimizer)
        scaler.update()
        means.add({"loss": loss}, where=f"step {step}, cases {', '.join(batch.names)}")
        if step % options.iterations_per_epoch == 0 or step == options.steps:
            ctx.metric(step=step, **means.take())
            yield step


def differentiate(
    network: UNet,
    batch: Batch,
    plan: Plan,
    batch_dice: bool,
    scaler: torch.amp.GradScaler,
    ctx: Context,
) -> Tensor:
    """Give the weights their gradients, scaled for fp16; returns the loss of the batch.

    On a CPU every patch is a piece of its own: instance normalization keeps patches apart, so that
    pieces may be worked on side by side. A Dice over the batch needs all patches at once.
    """
    weights, patches = list(network.parameters()), len(batch.images)
    size = patches if batch_dice or ctx.device != "cpu" else 1

    def piece(first: int) -> tuple[Tensor, Sequence[Tensor]]:
        images, labels = (
            tensors[first : first + size].to(ctx.device, non_blocking=True)
            for tensors in (batch.images, batch.labels)
        )
        counted = None
        if batch.weights is not None:
            counted = batch.weights[first : first + size].to(ctx.device, non_blocking=True)
        with autocast(ctx.device, ctx.precision, fp16_is_safe=True):
            levels = network.levels(images)
        loss = deep_loss(levels, labels, plan.strides, batch_dice=batch_dice, weights=counted)
        loss = loss * (len(images) / patches)
        return loss.detach(), torch.autograd.grad(scaler.scale(loss), weights)

    return sum_gradients(weights, side_by_side(piece, range(0, patches, size), ctx))


def set_rate(optimizer: torch.optim.Optimizer, options: UNet3DOptions, done: int) -> None:
    """Set the learning rate of the next step: it falls to 0 by a power of 0.9, as nnU-Net's."""
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * (1 - done / options.steps) ** POWER


def make_optimizer(network: nn.Module, options: UNet3DOptions) -> torch.optim.Optimizer:
    """The optimizer that the options name."""
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        network.parameters(),
        rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=decay,
        fused=True,
    )


def deep_loss(
    levels: Sequence[Tensor],
    labels: Tensor,
    strides: Sequence[Sequence[int]],
    *,
    batch_dice: bool,
    weights: Tensor | None = None,
) -> Tensor:
    """Loss of all supervised stages, each weighing half of the finer one.

    Args:
        levels: class scores ``(B, 1 + classes, I / s, J / s, K / s)``, finest first.
        labels: uint8 ``(B, I, J, K)``.
        strides: of every stage.
        batch_dice: see `dice_and_cross_entropy`.
        weights: how much each patch counts, ``(B,)``; None where all count the same and no voxel
            is ignored.
    """
    shares = [0.5**level for level in range(len(levels))]
    total = torch.zeros((), device=labels.device)
    target = labels
    for scores, share, (i, j, k) in zip(levels, shares, strides, strict=False):
        target = target[:, i // 2 :: i, j // 2 :: j, k // 2 :: k]  # the nearest of each cell
        if weights is None:
            loss = dice_and_cross_entropy(scores, target, batch_dice=batch_dice)
        else:
            loss = weighted_loss(scores, target, weights, batch_dice=batch_dice)
        total = total + share * loss
    return total / sum(shares)


def dice_and_cross_entropy(scores: Tensor, labels: Tensor, *, batch_dice: bool) -> Tensor:
    """Cross entropy plus one minus the mean soft Dice of all classes but background.

    The same as MONAI's DiceCELoss; sharing the softmax makes it cheaper on a CPU.

    Args:
        scores: ``(B, 1 + classes, I, J, K)``.
        labels: integers ``(B, I, J, K)``.
        batch_dice: one Dice over the batch, steadier for structures that few patches show.
    """
    logarithms = functional.log_softmax(scores.float(), dim=1)
    probabilities = logarithms[:, 1:].exp()
    classes = torch.arange(scores.shape[1], device=labels.device).view(1, -1, 1, 1, 1)
    where = (labels[:, None] == classes).to(logarithms.dtype)
    # Not by nll_loss, which has no deterministic kernel on CUDA.
    entropy = -(logarithms * where).sum() / labels.numel()
    truth = where[:, 1:]
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    common = (probabilities * truth).sum(axes)
    size = probabilities.sum(axes) + truth.sum(axes)
    dice = (2 * common + SMOOTH) / (size + SMOOTH)
    return entropy + 1 - dice.mean()


def weighted_loss(scores: Tensor, labels: Tensor, weights: Tensor, *, batch_dice: bool) -> Tensor:
    """`dice_and_cross_entropy` of patches that count more or less, without ignored voxels.

    With weights of 1 and no such voxel it is the same up to rounding.

    Args:
        scores: ``(B, 1 + classes, I, J, K)``.
        labels: integers ``(B, I, J, K)``; voxels with `IGNORED` add nothing.
        weights: ``(B,)``: factor of the loss of each patch, and with ``batch_dice`` of its voxels
            in the common Dice.
        batch_dice: see `dice_and_cross_entropy`.
    """
    logarithms = functional.log_softmax(scores.float(), dim=1)
    counted = (labels != IGNORED)[:, None].to(logarithms.dtype)
    classes = torch.arange(scores.shape[1], device=labels.device).view(1, -1, 1, 1, 1)
    where = (labels[:, None] == classes).to(logarithms.dtype)
    space = (2, 3, 4)
    voxels = counted.sum((1, *space)).clamp_min(1)
    entropy = -(logarithms * where).sum((1, *space)) / voxels
    truth, probabilities = where[:, 1:], logarithms[:, 1:].exp() * counted
    common = (probabilities * truth).sum(space)
    size = probabilities.sum(space) + truth.sum(space)
    if batch_dice:
        common, size = ((weights[:, None] * part).sum(0) for part in (common, size))
        dice = ((2 * common + SMOOTH) / (size + SMOOTH)).mean()
        return (weights * entropy).mean() + weights.mean() * (1 - dice)
    dice = ((2 * common + SMOOTH) / (size + SMOOTH)).mean(1)
    return (weights * (entropy + 1 - dice)).mean()
