"""Losses on their way from a device to a report."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmod.torch import Means, to_numbers


def test_numbers_are_those_of_float():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=50).astype(np.float32))
    losses = {str(n): value for n, value in enumerate(values)}
    assert to_numbers(losses) == {name: float(loss) for name, loss in losses.items()}


def test_types_may_differ():
    losses = {
        str(kind): torch.tensor(1 / 3, dtype=kind, requires_grad=True)
        for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    }
    assert to_numbers(losses) == {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_stays_so(value):
    assert str(to_numbers({"loss": torch.tensor(value)})["loss"]) == str(value)


def test_the_device_is_asked_once(monkeypatch):
    asked = []
    transfer = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: asked.append(1) or transfer(self))
    to_numbers({name: torch.tensor(1.0) for name in "abc"})
    assert asked == [1]


def test_means_go_on_from_their_state():
    values = [0.1, 0.2, 0.4]
    one, other = Means(), Means()
    one.add({"loss": values[0]})
    other.load_state_dict(one.state_dict())
    for means in (one, other):
        for value in values[1:]:
            means.add({"loss": value})
    assert one.take() == other.take() == {"loss": sum(values) / 3}
    assert one.take() == {}
