"""The Ray engine without a cluster: a stand-in takes the place of Ray."""

from __future__ import annotations

import os
import sys
import warnings
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from crossmod_ray import Ray, RayOptions, cluster, engine, work
from crossmod_ray.work import Board, Line
from pydantic import ValidationError

from crossmod.errors import CrossmodError, Interrupted, MachineError
from crossmod.recipe.model import EmbeddedCohort
from crossmod.run.steps import MakePhantom
from crossmod.run.task import Advance, Machine, Outcome, Remark, Task
from crossmod.store.store import Store


class RayError(Exception):
    pass


Kinds = {
    name: type(name, (RayError,), {})
    for name in ("WorkerCrashedError", "NodeDiedError", "ObjectLostError", "LocalRayletDiedError",
                 "OutOfMemoryError", "TaskCancelledError")
}  # fmt: skip


@dataclass
class StandIn:
    """Ray: tasks end with what was put into ``ends``, in order."""

    ends: list[object] = field(default_factory=list)
    board: Board = field(default_factory=Board)
    sent: list[Task] = field(default_factory=list)
    cancelled: list[object] = field(default_factory=list)
    exceptions = SimpleNamespace(RayError=RayError, **Kinds)

    def options(self, **terms: object) -> StandIn:
        self.terms = terms
        return self

    def remote(self, task: Task, *unused: object) -> str:
        self.sent.append(task)
        return f"task {len(self.sent)}"

    def wait(self, references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return (references[:1], references[1:]) if self.ends else ([], references)

    def get(self, reference: object, timeout: float = 0) -> object:
        if isinstance(reference, Exception):
            raise reference
        if not isinstance(reference, str):
            return reference
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}}]

    def cancel(self, reference: object) -> None:
        self.cancelled.append(reference)


def called(method: Any) -> Any:
    return SimpleNamespace(remote=method)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    size = EmbeddedCohort(source=1, target=1, validation=1)
    step = MakePhantom(name="phantom", size=size, code="")
    return Task(step.key, step, tmp_path, {})


def joined(task: Task, *ends: object, **options: Any) -> tuple[Ray, StandIn]:
    """An engine whose Ray is a stand-in, with a task handed to it."""
    ray = StandIn(list(ends))
    made = Ray(RayOptions(**options), Store(task.store), Machine(device="cpu"))
    made._ray = made._make = ray
    board = ray.board
    made._board = SimpleNamespace(take=called(board.take), stop=called(board.stop))
    made.submit([task])
    return made, ray


def outcome(made: Ray) -> CrossmodError:
    events = [event for event in made.wait(0) if isinstance(event, Outcome)]
    assert len(events) == 1
    assert events[0].error is not None
    return events[0].error


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head:6379", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert RayOptions(address=address).address == address


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "", "local"])
def test_addresses_that_ray_would_take_otherwise(address: str) -> None:
    with pytest.raises(ValidationError):
        RayOptions(address=address)


def test_without_ray(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "ray", None)
    made = Ray(RayOptions(), Store(task.store), Machine())
    assert made.takes(task)
    with pytest.raises(MachineError, match=r"\.\[ray\]"):
        made.submit([task])
    made.close()


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(MachineError, match="cannot connect to the Ray cluster"):
        cluster.connected("127.0.0.1:1", "cpu", tmp_path)


def test_a_cluster_of_ones_own_knows_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", dict.fromkeys(cluster.FOREIGN_VARIABLES, "1.2.3.4:6379"))
    terms = cluster._own_cluster("cpu", tmp_path)
    assert terms["address"] == "local"
    assert terms["_node_ip_address"] == "127.0.0.1"
    assert os.environ.keys().isdisjoint(cluster.FOREIGN_VARIABLES)
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_room(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "cores", lambda: 8)

    def room(device: str = "cpu", **options: Any) -> int:
        made = Ray(RayOptions(**options), Store(task.store), Machine(device=device))
        return next(n for n in range(99) if not made.takes(task, [task] * n) or n == 50)

    assert room() == 8
    assert room(cpus_per_task=3) == 2
    assert room(cpus_per_task=99) == 1  # told why when it is submitted
    assert room(max_tasks=3) == 3
    assert room(address="auto") == 50  # no limit
    monkeypatch.setattr(engine, "gpus", lambda device: ["0", "1"])
    assert room("auto") == 2
    assert room("auto", gpus_per_task=0.5) == 4
    assert room("auto", gpus_per_task=0) == 8


def test_gpus_are_numbered_anew(task: Task) -> None:
    numbered = replace(task, machine=Machine(device="cuda:3"))
    _, ray = joined(numbered, address="auto", gpus_per_task=0)
    assert ray.sent[0].machine.device == "cuda"
    assert ray.sent[0].shared


def test_known_memory_is_set_aside_as_far_as_there_is_any(task: Task) -> None:
    _, ray = joined(replace(task, memory_bytes=2 * 10**9))
    assert ray.terms["memory"] == 2 * 10**9
    _, ray = joined(replace(task, memory_bytes=20 * 10**9))
    assert ray.terms["memory"] == 8 * 10**9
    _, ray = joined(task)
    assert ray.terms["memory"] is None


def test_too_large_for_this_machine(task: Task) -> None:
    made, ray = joined(task, cpus_per_task=6, memory_gb=9.0)
    assert "does not have 6 CPU and 9 GB" in str(outcome(made))
    assert not ray.sent


def test_too_large_for_a_cluster_that_may_grow(task: Task) -> None:
    made, ray = joined(task, gpus_per_task=0.5, address="auto")
    [remark] = made.wait(0)
    assert isinstance(remark, Remark)
    assert remark.warning
    assert remark.text == "phantom is waiting: no machine of the cluster has 1 CPU and 0.5 GPU"
    assert ray.sent


@pytest.mark.parametrize("kind", ["WorkerCrashedError", "NodeDiedError"])
def test_lost_tasks_begin_again(task: Task, kind: str) -> None:
    made, ray = joined(task, Kinds[kind]("gone"), Outcome(task.key, made=True))
    [remark] = made.wait(0)
    assert isinstance(remark, Remark)
    assert remark.warning
    assert made.wait(0) == [Outcome(task.key, made=True)]
    assert len(ray.sent) == 2
    assert made.wait(0) == []


def test_lost_too_often(task: Task) -> None:
    ends = [Kinds["WorkerCrashedError"]("gone") for _ in range(3)]
    made, ray = joined(task, *ends, retries=2)
    made.wait(0), made.wait(0)
    assert "step phantom: its machine or process was lost 3 times: gone" in str(outcome(made))
    assert len(ray.sent) == 3


def test_memory_short_is_said_at_once(task: Task) -> None:
    made, ray = joined(task, Kinds["OutOfMemoryError"]("a page of text"))
    ray.board.tell(Advance(task.key, 1, 3, "", "case-7", 3 * 2**30))
    error = outcome(made)
    assert "step phantom, at case case-7: out of memory" in str(error)
    assert "3.0 GiB" in str(error)


def test_stop_leaves_out_what_waits(task: Task) -> None:
    made, ray = joined(task)
    other = replace(task, key="other")
    made.submit([other])
    ray.board.tell(Remark(task.key, "at work"))
    made.stop()
    assert ray.board.stopping
    assert ray.cancelled == ["task 2"]
    ray.ends = [Kinds["NodeDiedError"]("gone"), Kinds["TaskCancelledError"]("cancelled")]
    assert made.wait(0)[0] == Remark(task.key, "at work")
    assert isinstance(outcome(made), Interrupted)
    assert len(ray.sent) == 2


def test_ray_dies(task: Task) -> None:
    made, ray = joined(task, Kinds["NodeDiedError"]("gone"))
    made._board.take = called(lambda: RayError("the board is gone"))
    assert "step phantom: Ray does not answer on this machine" in str(outcome(made))
    assert len(ray.sent) == 1
    assert made.wait(0) == []


def answers(*values: object) -> Any:
    """A board whose answers to `asked_to_stop` come in order; errors are raised, None is late."""

    def answer() -> Any:
        future: Future[bool] = Future()
        value = next(left, None)
        if isinstance(value, Exception):
            future.set_exception(value)
        elif value is not None:
            future.set_result(bool(value))
        return SimpleNamespace(future=lambda: future)

    left = iter(values)
    return SimpleNamespace(asked_to_stop=called(answer))


def test_a_task_asks_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "ASK_EVERY_S", -1.0)
    line = Line(answers(False, True))
    assert [line.stopping() for _ in range(3)] == [False, False, True]
    late = Line(answers(None))
    assert [late.stopping() for _ in range(3)] == [False] * 3
    orphan = Line(answers(RayError("the board is gone"), True))
    assert [orphan.stopping() for _ in range(2)] == [False, True]


def test_a_machine_that_does_not_see_the_store(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", None)  # put back in the end
    board = SimpleNamespace(tell=called(lambda event: None))
    elsewhere = replace(task, store=task.store / "elsewhere")
    ended = work.make(elsewhere, board, str(Path.cwd()))
    assert "cannot see the store" in str(ended.error)
    assert not elsewhere.store.exists()
