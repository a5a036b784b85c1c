"""Steps that share GPUs on this machine: as many as fit by estimate, never more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmod.cost.estimates import Estimate, Estimates
from crossmod.engines import Machine, Outcome, Store, Task, local
from crossmod.engines.local import Local, LocalOptions, Process
from crossmod.machine import GIB


class Deaf:
    """Takes what a worker is told."""

    def send(self, message: object) -> None:
        pass

    def close(self) -> None:
        pass


def engine_with(
    gpus: int, workers: int, gib: int, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Local:
    """An engine that believes in GPUs and whose workers do nothing."""
    monkeypatch.setattr(local, "gpus", lambda device: [str(n) for n in range(gpus)])
    monkeypatch.setattr(local, "gpu_memory", lambda device: gib * GIB)
    monkeypatch.setattr(local, "memory_limit", lambda: 10**15)
    ended = SimpleNamespace(poll=lambda: 0, wait=lambda: 0, pid=0)
    worker = cast("Any", ended), cast("Any", Deaf()), cast("Any", Deaf())
    monkeypatch.setattr(Local, "_start", lambda self, slot: Process(*worker))
    return Local(LocalOptions(workers=workers), Store(folder), Machine())


def task(name: str, gib: float | None) -> Task:
    step = cast("Any", SimpleNamespace(name=name))
    return Task(name, step, Path(), {}, gpu_bytes=None if gib is None else int(gib * GIB))


def begin(engine: Local, tasks: Iterable[Task]) -> list[str]:
    """Hand over what there is room for, as the scheduler does; names of what has to wait."""
    waiting, taken = [], list[Task]()
    for one in tasks:
        if engine.takes(one, taken):
            taken.append(one)
        else:
            waiting.append(one.name)
    engine.submit(taken)
    return waiting


def at_work(engine: Local) -> dict[str, list[str]]:
    """GPU -> the steps on it."""
    found: dict[str, list[str]] = {gpu: [] for gpu in engine.gpus}
    for slot, worker in engine.pool.items():
        if worker.task:
            found[engine.gpus[slot % len(engine.gpus)]].append(worker.task.name)
    return {gpu: sorted(names) for gpu, names in found.items()}


def end(engine: Local, name: str) -> None:
    [slot] = [n for n, one in engine.pool.items() if one.task and one.task.name == name]
    engine._note(slot, Outcome(name))


def test_steps_share_a_gpu_as_far_as_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = engine_with(2, 6, 24, monkeypatch, tmp_path)  # 3 workers on each: 21 GiB are left
    waiting = begin(engine, [task(name, 10) for name in "abcde"])
    assert at_work(engine) == {"0": ["a", "c"], "1": ["b", "d"]}
    assert waiting == ["e"]
    assert begin(engine, [task("small", 1), task("smaller", 0.5), task("large", 2)]) == ["large"]
    assert at_work(engine) == {"0": ["a", "c", "small"], "1": ["b", "d", "smaller"]}
    end(engine, "b")
    end(engine, "small")
    assert begin(engine, [task("e", 10), task("f", 1)]) == []
    assert at_work(engine) == {"0": ["a", "c", "f"], "1": ["d", "e", "smaller"]}


def test_a_step_of_unknown_size_has_a_gpu_for_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = engine_with(1, 3, 80, monkeypatch, tmp_path)
    assert begin(engine, [task("unknown", None), task("known", 1), task("none", 0)]) == ["known"]
    assert at_work(engine) == {"0": ["none", "unknown"]}
    end(engine, "unknown")
    assert begin(engine, [task("known", 1), task("unknown", None)]) == ["unknown"]


def test_a_gpu_is_not_shared_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = engine_with(2, 2, 8, monkeypatch, tmp_path)
    assert not alone.shares_gpus
    assert begin(alone, [task("a", 100), task("b", None), task("c", 0)]) == ["c"]
    cpu = engine_with(0, 3, 0, monkeypatch, tmp_path)
    assert not cpu.shares_gpus
    assert begin(cpu, [task(name, None) for name in "abcd"]) == ["d"]


def test_a_worker_leaves_a_shared_gpu_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for workers, kept in ((1, {0, 1}), (2, {1})):
        engine = engine_with(1, workers, 80, monkeypatch, tmp_path)
        monkeypatch.setattr(local, "GROWN_BYTES", 10**15)
        begin(engine, [task("gpu", 5), task("cpu", 0)])
        for slot, worker in list(engine.pool.items()):
            assert worker.task is not None
            engine._note(slot, Outcome(worker.task.key))
        assert set(engine.pool) == kept & set(range(workers))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, 0, 1, 3, 7, 12]), st.booleans()), max_size=30))
def test_no_gpu_ever_takes_more_than_it_has(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[float | None, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        engine = engine_with(2, 5, 15, monkeypatch, tmp_path_factory.mktemp("store"))
        for number, (gib, ends) in enumerate(events):
            begin(engine, [task(str(number), gib)])
            busy = [one.task.name for one in engine.pool.values() if one.task]
            for gpu in range(2):
                there = [one.task.gpu_bytes for n, one in engine.pool.items()
                         if one.task and n % 2 == gpu and one.task.gpu_bytes != 0]  # fmt: skip
                known = [size for size in there if size is not None]
                assert len(there) <= 1 or len(known) == len(there)
                assert sum(known) <= 12 * GIB  # 15 less one for each of three workers
            if ends and busy:
                end(engine, busy[0])


def test_a_plan_knows_which_steps_need_no_gpu() -> None:
    estimates = Estimates(
        of={"a": Estimate(gpu_bytes=0), "b": Estimate(), "c": Estimate(gpu_bytes=5)}
    )
    assert estimates.gpu_bytes == {"a": 0, "c": 5}
