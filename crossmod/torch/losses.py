"""Losses of steps: from the device to Python, and their means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


class Means:
    """Mean losses since they were last taken; a part of `resumable`.

    Example:
        >>> means = Means()
        >>> means.add({"loss": 1.0})
        >>> means.add({"loss": 2.0})
        >>> means.take()
        {'loss': 1.5}
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = 0

    def add(self, losses: Mapping[str, float]) -> None:
        """Count one step; every step has losses of the same names."""
        self.sums = {name: loss + self.sums.get(name, 0.0) for name, loss in losses.items()}
        self.steps += 1

    def take(self) -> dict[str, float]:
        """The means; begins anew."""
        means = {name: total / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """What was added so far."""
        return {"sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.sums, self.steps = dict(state["sums"]), state["steps"]
