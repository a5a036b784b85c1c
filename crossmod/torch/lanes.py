"""Independent pieces of one computation, side by side on the cores of a CPU, to the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from crossmod.stages.context import Context

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def side_by_side(
    work: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    ctx: Context,
    *,
    most: int | None = None,
    split: bool = False,
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
        most: how many items the memory allows at once; by default all.
        split: share out the threads of a caller that has several, which keeps its cores busier.
            How many threads an item gets depends on these and the number of items only.

    Raises:
        Exception: what ``work`` raises.
    """
    if ctx.device != "cpu":
        return map(work, items)
    threads = own = torch.get_num_threads()
    limit = min(len(items), most or len(items))
    if split and limit:  # of equally busy ways that with most items at once
        threads = own // max(range(1, min(limit, own) + 1), key=lambda n: (n * (own // n), n))
    lanes = min(limit, max(ctx.cores(), own if split else 1) // threads)
    if lanes > 1:
        return _pool(lanes, threads).map(work, items)
    return map(work, items)


def thread_pool(count: int, threads: int, name: str) -> ThreadPoolExecutor:
    """Threads that compute with ``threads`` threads of torch each, whatever the caller does.

    A thread takes torch's number of threads when it first computes or asks for it: whichever was
    set last, anywhere. So the caller asks before others are set, and each of these before its own.

    Args:
        count: how many.
        threads: of torch, for each of them.
        name: how their names begin.
    """
    torch.get_num_threads()
    return ThreadPoolExecutor(count, name, _compute_with, (threads,))


def _compute_with(threads: int) -> None:
    torch.get_num_threads()
    torch.set_num_threads(threads)


@cache
def _pool(lanes: int, threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work; by their name the core knows that idle ones may stay."""
    return thread_pool(lanes, threads, "LaneExecutor")


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
