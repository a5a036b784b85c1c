"""Losses of a step, from the device to Python."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def to_numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Losses as Python numbers, in one transfer: a GPU is waited for once, not once per loss.

    Args:
        losses: by name, at least one; scalars on one device, of any floating-point types.

    Returns:
        The same values: every number of a smaller type is one of a larger type, too.
    """
    values = torch.stack([loss.detach() for loss in losses.values()])
    return dict(zip(losses, values.tolist(), strict=True))
