"""What runs in the processes of Ray: tasks, and the board between them and the program."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from crossmod import MachineError
from crossmod.engines import Event, Maker, Outcome, Remark, Task, forward_warnings

ASK_EVERY_S = 1.0
"""How often a task asks whether it should stop."""

FLUSH_S = 10.0
"""Longest wait for the last events of a task to arrive."""


class Board:
    """An actor on the machine of the program: events come to it, the wish to stop goes out."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopping = False

    def tell(self, event: Event) -> None:
        """Keep an event until it is taken."""
        self.events.append(event)

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events

    def stop(self) -> None:
        """Ask all tasks to end."""
        self.stopping = True

    def asked_to_stop(self) -> bool:
        """Whether all tasks were asked to end."""
        return self.stopping


class Line:
    """A task's line to the board.

    It never waits for an answer: Ray gives the cores of a task that does to another.

    Args:
        board: the actor.
    """

    def __init__(self, board: Any) -> None:
        self.board = board
        self._told: Any = None
        self._answer: Future[bool] | None = None
        self._asked = -math.inf
        self._stopping = False

    def tell(self, event: Event) -> None:
        """Send an event."""
        self._told = self.board.tell.remote(event)

    def flush(self) -> None:
        """Wait until all events have arrived."""
        with suppress(Exception):  # without a board nobody listens
            self._told.future().result(FLUSH_S)

    def stopping(self) -> bool:
        """Whether the task was asked to end, at most about a second old."""
        if self._answer is not None and self._answer.done():
            # The board lives as long as the program.
            self._stopping = self._answer.exception() is not None or self._answer.result()
            self._answer = None
        now = time.monotonic()
        if self._answer is None and now - self._asked > ASK_EVERY_S:
            self._asked = now
            self._answer = self.board.asked_to_stop.remote().future()
        return self._stopping


def make(task: Task, board: Any, folder: str) -> Outcome:
    """Make a task; runs in a process of Ray.

    Args:
        task: what to make.
        board: takes events.
        folder: where the program was started; paths may be relative to it.
    """
    line, here = Line(board), platform.node()
    line.tell(Remark(task.key, f"{task.name} is running on {here}"))

    forward_warnings(task.key, line.tell)
    with suppress(OSError):
        os.chdir(folder)
    if task.store.is_dir():
        outcome = Maker(task, line.tell, line.stopping).outcome()
    else:
        outcome = Outcome(task.key, error=_no_store(task, here))
    with suppress(AttributeError, OSError):  # glibc keeps what a training freed
        ctypes.CDLL(None).malloc_trim(0)
    line.flush()
    return outcome


def _no_store(task: Task, here: str) -> MachineError:
    return MachineError(
        f"{here} cannot see the store {task.store}",
        where=f"step {task.name}",
        fix="with --store, name a folder on a disk that all machines of the cluster share",
    )
