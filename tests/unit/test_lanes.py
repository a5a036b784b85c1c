"""Pieces of a computation side by side: in order, on the cores there are, with as many threads."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from crossmod import Context
from crossmod.torch import side_by_side


@pytest.fixture(params=[1, 2, 4, 6])
def own(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def context(cores, device="cpu"):
    return Context(Path("nowhere"), device=device, cores=lambda: cores)


def lanes_of(items, ctx, most=None):
    """How many threads worked, and with how many threads of torch each."""
    barrier = threading.Barrier(10, timeout=0.1)

    def work(item):
        with suppress(threading.BrokenBarrierError):  # no second item before all lanes have one
            barrier.wait()
        return item, threading.get_ident(), torch.get_num_threads()

    found = list(side_by_side(work, range(items), ctx, most))
    assert [item for item, *_ in found] == list(range(items))
    [threads] = {threads for *_, threads in found}
    return len({ident for _, ident, _ in found}), threads


def test_one_thread_stays_one_thread_in_every_lane():
    torch.set_num_threads(1)
    assert lanes_of(8, context(4)) == (4, 1)
    assert lanes_of(3, context(4)) == (3, 1)
    assert lanes_of(8, context(4), most=2) == (2, 1)


def test_threads_of_the_caller_are_shared_out(own):
    assert lanes_of(8, context(1)) == (1, own)
    assert lanes_of(1, context(own)) == (1, own)
    assert lanes_of(8, context(own)) == (own, 1)
    lanes, threads = lanes_of(8, context(own), most=4)
    assert (lanes, threads) == {1: (1, 1), 2: (2, 1), 4: (4, 1), 6: (3, 2)}[own]


def test_nothing_runs_beside_on_a_gpu_and_nothing_comes_of_nothing(own):
    assert lanes_of(4, context(4, "cuda")) == (1, own)
    assert list(side_by_side(str, [], context(4))) == []
