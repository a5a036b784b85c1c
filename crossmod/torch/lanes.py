"""Independent pieces of one computation, side by side on the cores of a CPU, to the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from crossmod.stages.base import Context

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def side_by_side(
    work: Callable[[ItemT], ResultT], items: Sequence[ItemT], ctx: Context
) -> Iterator[ResultT]:
    """What ``work`` makes of each item, in their order, in as many threads as there are free cores.

    Each thread computes with as many threads of its own as the caller does. So a result has the
    same bits wherever it is made, and sums over results that are taken in order have them too. On
    a GPU, and where no second core is free, items are worked on one after the other.

    Args:
        work: must not depend on which item came before: it draws no random numbers and changes
            nothing that is shared. It enters `autocast` and torch's ``inference_mode`` itself,
            since these hold for one thread.
        items: what to work on.
        ctx: says which device is used and how many cores are free at the moment.

    Raises:
        Exception: what ``work`` raises.
    """
    own = torch.get_num_threads()
    lanes = min(len(items), ctx.cores() // own) if ctx.device == "cpu" else 1
    if lanes > 1:
        return _pool(lanes, own).map(work, items)
    return map(work, items)


@cache
def _pool(lanes: int, threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work; torch's number of threads is set in each of them anew."""
    return ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (threads,))


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a fork


def sum_gradients(
    parameters: Sequence[nn.Parameter], pieces: Iterable[tuple[Tensor, Sequence[Tensor]]]
) -> Tensor:
    """Give parameters the sum of the gradients of the pieces of a step, added in their order.

    Args:
        parameters: what is learned; gradients from before are dropped.
        pieces: for each, its share of the loss, a scalar, and the gradient of that by every
            parameter, as of ``torch.autograd.grad``.

    Returns:
        The loss of the step.
    """
    remaining = iter(pieces)
    total, gradients = next(remaining)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = _laid_out_as(parameter, gradient)
    for loss, gradients in remaining:
        total = total + loss
        for parameter, gradient in zip(parameters, gradients, strict=True):
            assert parameter.grad is not None
            parameter.grad += gradient
    return total


def _laid_out_as(parameter: nn.Parameter, gradient: Tensor) -> Tensor:
    """Fused optimizers on a CPU pair values by their place in memory, whatever the strides say."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
