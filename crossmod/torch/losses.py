"""Losses of steps: from the device to Python, and their means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from crossmod.torch.snapshot import require_finite

LATE = 16
"""Steps after which losses on a GPU are read."""


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

    Losses on a GPU are read a few steps late, together, so that no step waits for them. A loss that
    is NaN or infinite raises an error that names the step it came from, at the latest before a
    checkpoint is kept.

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
        self._unread: list[tuple[Mapping[str, Tensor], str]] = []

    def add(self, losses: Mapping[str, float | Tensor], where: str = "") -> None:
        """Count one step; every step has losses of the same names.

        Args:
            losses: by name, at least one; numbers, or scalars on one device.
            where: the step and the cases it learned from, for errors.

        Raises:
            CrossmodError: a loss of this or an earlier step is NaN or infinite.
        """
        tensors = {
            name: loss.detach()
            if isinstance(loss, Tensor)
            else torch.tensor(loss, dtype=torch.float64)
            for name, loss in losses.items()
        }
        self._unread.append((tensors, where))
        if len(self._unread) >= LATE or next(iter(tensors.values())).device.type == "cpu":
            self._read()

    def take(self) -> dict[str, float]:
        """The means; begins anew."""
        self._read()
        means = {name: total / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """What was added so far."""
        self._read()
        return {"sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.sums, self.steps = dict(state["sums"]), state["steps"]
        self._unread.clear()

    def _read(self) -> None:
        """Bring the losses of the last steps to Python, in one transfer, and count them."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        names = list(unread[0][0])
        stacked = torch.stack([losses[name] for losses, _ in unread for name in names])
        rows = stacked.view(len(unread), len(names)).tolist()
        for row, (_, where) in zip(rows, unread, strict=True):
            losses = dict(zip(names, row, strict=True))
            require_finite(losses, where)
            self.sums = {name: loss + self.sums.get(name, 0.0) for name, loss in losses.items()}
            self.steps += 1
