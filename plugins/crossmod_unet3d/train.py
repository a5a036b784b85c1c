"""Training: loss, optimizer, schedule and loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossmod import Context
from crossmod.torch import Part, autocast, loss_scaler, require_finite, resumable
from crossmod_unet3d.networks import UNet
from crossmod_unet3d.patches import Batch
from crossmod_unet3d.plan import Plan

SMOOTH = 1e-5
MOMENTUM = 0.99
POWER = 0.9
LARGEST_GRADIENT = 12.0


@dataclass(frozen=True)
class Schedule:
    """How to optimize.

    Attributes:
        steps: in all.
        report_every: steps between two notes of the mean loss.
        optimizer: "sgd" or "adamw".
        learning_rate: at the first step; it falls to 0 by a power of 0.9.
        weight_decay: of all weights.
        batch_dice: one Dice over all patches of a batch instead of one for each.
    """

    steps: int
    report_every: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_dice: bool


def train(
    network: UNet,
    batch_of: Callable[[int], Batch],
    plan: Plan,
    schedule: Schedule,
    ctx: Context,
) -> Iterator[int]:
    """Train a network in place; yields the number of steps done after each report.

    Args:
        network: on the device of ``ctx``.
        batch_of: the batch of a step, counted from 0.
        plan: the plan of the network.
        schedule: how to optimize.
        ctx: the run.

    Raises:
        CrossmodError: the loss is no longer a number.
    """
    optimizer = make_optimizer(network, schedule)
    network.train()
    scaler, losses = loss_scaler(ctx.device, ctx.precision), Losses()
    parts: dict[str, Part] = {
        "network": network,
        "optimizer": optimizer,
        "scaler": scaler,
        "losses": losses,
    }
    for number in resumable(ctx, schedule.steps, parts, label="train"):
        step, batch = number + 1, batch_of(number)
        set_rate(optimizer, schedule, number)
        optimizer.zero_grad(set_to_none=True)  # before the activations take their memory
        loss = train_step(network, batch, plan, schedule.batch_dice, ctx)
        value = loss.item()
        require_finite({"loss": value}, f"step {step}, cases {', '.join(batch.names)}")
        losses.values.append(value)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        scaler.step(optimizer)
        scaler.update()
        if step % schedule.report_every == 0 or step == schedule.steps:
            ctx.metric(step=step, loss=losses.take_mean())
            yield step


class Losses:
    """The losses since the last report."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def take_mean(self) -> float:
        """Their mean; begins anew."""
        mean = sum(self.values) / len(self.values)
        self.values = []
        return mean

    def state_dict(self) -> dict[str, Any]:
        """The losses."""
        return {"values": self.values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.values = list(state["values"])


def train_step(network: UNet, batch: Batch, plan: Plan, batch_dice: bool, ctx: Context) -> Tensor:
    """The loss of one batch, ready to be differentiated."""
    images = batch.images.to(ctx.device, non_blocking=True)
    labels = batch.labels.to(ctx.device, non_blocking=True)
    with autocast(ctx.device, ctx.precision, fp16_is_safe=True):
        levels = network.levels(images)
    return deep_loss(levels, labels, plan.strides, batch_dice=batch_dice)


def set_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, done: int) -> None:
    """Set the learning rate of the next step: it falls to 0 by a power of 0.9, as nnU-Net's."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * (1 - done / schedule.steps) ** POWER


def make_optimizer(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """The optimizer of a schedule."""
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    return torch.optim.SGD(
        network.parameters(), rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay
    )


def deep_loss(
    levels: Sequence[Tensor],
    labels: Tensor,
    strides: Sequence[Sequence[int]],
    *,
    batch_dice: bool,
) -> Tensor:
    """Loss of all supervised stages, each weighing half of the finer one.

    Args:
        levels: class scores ``(B, 1 + classes, I / s, J / s, K / s)``, finest first.
        labels: uint8 ``(B, I, J, K)``.
        strides: of every stage.
        batch_dice: see `dice_and_cross_entropy`.
    """
    weights = [0.5**level for level in range(len(levels))]
    total = torch.zeros((), device=labels.device)
    target = labels
    for scores, weight, (i, j, k) in zip(levels, weights, strides, strict=False):
        target = target[:, i // 2 :: i, j // 2 :: j, k // 2 :: k]  # the nearest of each cell
        loss = dice_and_cross_entropy(scores, target, batch_dice=batch_dice)
        total = total + weight * loss
    return total / sum(weights)


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
