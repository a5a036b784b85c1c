"""Pieces of a step on one core or on several: the same bits."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import tiny_stages
import torch
from crossmod_cyclegan import CycleGAN
from crossmod_unet3d import UNet3D

from crossmod import Context
from crossmod.engines.local import Local, LocalOptions, Process
from crossmod.errors import NotFinite
from crossmod.run.task import Machine
from crossmod.stages.guard.threads import counted
from crossmod.store.store import Store
from crossmod.testing import CLASSES
from crossmod.torch import Means, side_by_side, sum_gradients

BATCHES = {CycleGAN: [1, 2], UNet3D: [2, 3]}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    return tiny_stages.cohorts_in(tmp_path_factory.mktemp("cohorts"))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("trainer", "batch"), [(t, b) for t in BATCHES for b in BATCHES[t]])
def test_a_training_has_the_same_bits_on_any_number_of_cores(trainer, batch, cohorts, tmp_path):
    """The number may even change from step to step."""
    stage = tiny_stages.tiny(trainer, batch_size=batch)
    changing = iter([1, 4, 2, 1, 3] * 100)
    states = []
    for number, cores in enumerate([lambda: 1, lambda: 2, lambda: 4, lambda: next(changing)]):
        folder = tmp_path / str(number)
        ctx = replace(Context(folder, classes=CLASSES), cores=cores)
        folder.mkdir()
        states.append(tiny_stages.learned(stage, cohorts, ctx))
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        for name in states[0]:
            np.testing.assert_array_equal(states[0][name], other[name], err_msg=name)


@pytest.mark.usefixtures("one_thread")
def test_pieces_run_at_the_same_time_where_cores_are_free(tmp_path):
    meeting = threading.Barrier(3)

    def met(number):
        meeting.wait(timeout=30)  # broken unless three are here at once
        return number, torch.get_num_threads()

    ctx = Context(tmp_path, cores=lambda: 3)
    assert list(side_by_side(met, [5, 6, 7], ctx)) == [(5, 1), (6, 1), (7, 1)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("cores", "device"), [(1, "cpu"), (8, "cuda")])
def test_without_a_second_core_and_on_a_gpu_there_is_one_thread(cores, device, tmp_path):
    ctx = Context(tmp_path, device=device, cores=lambda: cores)
    threads = side_by_side(lambda item: threading.current_thread(), range(4), ctx)
    assert set(threads) == {threading.current_thread()}


def test_threads_of_torch_count_as_cores(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ctx = Context(tmp_path, cores=lambda: 3)
        threads = side_by_side(lambda item: threading.current_thread(), range(4), ctx)
        assert set(threads) == {threading.current_thread()}
    finally:
        torch.set_num_threads(before)


def lanes_of(items, ctx, **settings):
    """How many threads worked, and with how many threads of torch each."""
    barrier = threading.Barrier(10, timeout=0.1)

    def work(item):
        with suppress(threading.BrokenBarrierError):  # no second item before all lanes have one
            barrier.wait()
        return item, threading.get_ident(), torch.get_num_threads()

    found = list(side_by_side(work, range(items), ctx, **settings))
    assert [item for item, *_ in found] == list(range(items))
    [threads] = {threads for *_, threads in found}
    return len({ident for _, ident, _ in found}), threads


@pytest.mark.usefixtures("one_thread")
def test_memory_may_limit_how_many_run_beside(tmp_path):
    for split in (False, True):
        ctx = Context(tmp_path, cores=lambda: 4)
        assert lanes_of(8, ctx, split=split) == (4, 1)
        assert lanes_of(8, ctx, most=2, split=split) == (2, 1)
    assert list(side_by_side(str, [], ctx, split=True)) == []


@pytest.mark.parametrize(
    ("own", "items", "expected"),
    [
        (2, 1, (1, 2)),
        (2, 8, (2, 1)),
        (4, 8, (4, 1)),
        (4, 2, (2, 2)),
        (6, 8, (3, 2)),
        (3, 2, (1, 3)),
    ],
)
def test_threads_of_a_caller_can_be_split(own, items, expected, tmp_path):
    """At most four at once; how many threads each has does not depend on which cores are free."""
    before = torch.get_num_threads()
    torch.set_num_threads(own)
    try:
        for cores in (1, own, 2 * own):
            ctx = Context(tmp_path, cores=lambda cores=cores: cores)
            lanes, threads = lanes_of(items, ctx, most=4, split=True)
            assert threads == expected[1]
            assert lanes == (expected[0] if cores <= own else min(items, 4, cores // threads))
        ctx = Context(tmp_path, device="cuda", cores=lambda: 8)
        assert lanes_of(items, ctx, split=True) == (1, own)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_an_error_of_a_piece_is_that_of_the_step(tmp_path):
    def work(item):
        if item == 1:
            raise ValueError("of the second")
        return item

    for cores in (1, 4):
        ctx = Context(tmp_path, cores=lambda cores=cores: cores)
        with pytest.raises(ValueError, match="of the second"):
            list(side_by_side(work, range(3), ctx))


def test_gradients_are_summed_in_order():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.full((2,), 99.0)
    pieces = [(torch.tensor(n), [torch.tensor([n, -n])]) for n in (1.0, 1e8, -1e8)]
    assert sum_gradients([weight], pieces) == (1.0 + np.float32(1e8)) - np.float32(1e8)
    np.testing.assert_array_equal(weight.grad, [0.0, 0.0])  # 1 is lost beside 1e8


class Line:
    """What a worker was told."""

    def __init__(self):
        self.told = []

    def send(self, message):
        self.told.append(message)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_fused_optimizers_learn_the_same_from_gradients_in_any_layout(optimizer):
    """Convolutions of features that lie channels last give the gradient of their weights so."""
    start, gradient = torch.randn(2, 4, 3, 3, 3)
    learned = []
    for given in (gradient, gradient.contiguous(memory_format=torch.channels_last)):
        weight = torch.nn.Parameter(start.clone())
        sum_gradients([weight], [(torch.zeros(()), [given])])
        optimizer([weight], 0.1, fused=True).step()
        learned.append(weight.detach())
    assert torch.equal(*learned)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr("crossmod.engines.local.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def make(workers=None, threads=None, determinism="exact"):
        options = LocalOptions(workers=workers, threads=threads)
        return Local(options, Store(tmp_path), Machine("cpu", determinism=determinism))

    return make


def shares(local, busy):
    """Cores of each worker when so many are at work."""
    local.pool = {n: Process(None, Line(), None, task=object()) for n in range(busy)}
    local.pool[9] = Process(None, Line(), None)
    local._share_cores()
    assert not local.pool[9].connection.told
    return [local.pool[n].cores for n in range(busy)]


def test_idle_cores_go_to_the_workers_that_are_busy(engine):
    local = engine()
    assert [shares(local, n) for n in (1, 2, 3, 4)] == [[8], [4, 4], [3, 3, 2], [2, 2, 2, 2]]


def test_a_worker_is_told_of_its_cores_when_they_change(engine):
    local = engine()
    local.pool = {n: Process(None, Line(), None, task=object()) for n in range(2)}
    local._share_cores()
    local._share_cores()
    local.pool[1].task = None
    local._share_cores()
    assert local.pool[0].connection.told == [4, 8]
    assert local.pool[1].connection.told == [4]


def test_what_the_profile_or_the_environment_allows_is_the_limit(engine, monkeypatch):
    assert shares(engine(workers=2, threads=1), 1) == [2]
    assert shares(engine(workers=2, threads=3), 2) == [3, 3]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert shares(engine(workers=1), 1) == [1]


def test_a_loss_that_is_no_number_names_its_step():
    means = Means()
    means.add({"loss": torch.tensor(1.0)}, where="step 1")
    with pytest.raises(NotFinite, match=r"step 2, case a: loss is nan"):
        means.add({"loss": torch.tensor(float("nan"))}, where="step 2, case a")


def test_other_threads_do_not_change_the_callers_number_of_threads():
    """Torch gives a thread that has not computed yet the number that was set last, anywhere."""
    code = """
import torch
from crossmod.torch import thread_pool
torch.set_num_threads(3)
with thread_pool(1, 1, "a") as one, thread_pool(1, 2, "b") as two:
    both = [pool.submit(torch.get_num_threads).result() for pool in (one, two, one, two)]
print(torch.get_num_threads(), both)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3 [1, 2, 1, 2]\n"


def test_idle_lanes_are_not_told_of_as_threads_that_a_plugin_left(tmp_path):
    told = []
    with counted("plugin 'a'", told.append):
        ctx = Context(tmp_path, cores=lambda: 5)
        before = threading.active_count()
        assert list(side_by_side(abs, [-1, -2, -3, -4, -5], ctx)) == [1, 2, 3, 4, 5]
        assert threading.active_count() > before
    assert not told
