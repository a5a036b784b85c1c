"""The side of the race that runs in the process of a contestant.

A contestant is a function of a `Turns` and of its settings. It builds what it needs, and then works
once for each item of the turns:

    def contestant(turns: Turns, size: int) -> None:
        image = np.zeros((size, size))
        for _ in turns:
            image.sum()

So can a loop that others own: hand it the turns in place of, or together with, what it goes
through. This module needs nothing but Python, so that any checkout can take part.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any


class Turns:
    """Waits for the word to work, and tells how long that took.

    Args:
        orders: lines of JSON: ``seconds`` that a turn lasts at least, and whether to ``count``
            operations during it.
        answers: gets a line of JSON for each of them.

    Attributes:
        precision: the number format that the contestant computes in.
        counting: whether operations are counted in this turn: only those of the main thread are.
        pieces: how many times the work is done between one turn and the next.
    """

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self.precision = "fp32"
        self.counting = False
        self.pieces = 1
        self._orders, self._answers = orders, answers
        self._took: float | None = None
        self._share = 1.0

    def took(self, seconds: float, share: float = 1.0) -> None:
        """Say what the work takes, where that is not the time since the turn began.

        Args:
            seconds: for the work that the race is about.
            share: that work as a multiple of what was done.
        """
        self._took, self._share = seconds, share

    def failed(self, error: BaseException) -> None:
        """Say why the contestant stops."""
        self._tell(error=f"{type(error).__name__}: {error}"[:300])

    def __iter__(self) -> Iterator[None]:
        """Yield whenever it is time to work. Where no turn is left, the process ends."""
        self._tell(ready=True)
        for line in self._orders:
            order = json.loads(line)
            self.counting, self._took, self._share = order["count"], None, 1.0
            with _operations(self.counting) as counter:
                cpu, began, calls = cpu_seconds(), time.perf_counter(), 0
                while not calls or time.perf_counter() - began < order["seconds"]:
                    yield
                    calls += 1
                wall = time.perf_counter() - began
            works = calls * self.pieces
            self._tell(
                seconds=wall / works if self._took is None else self._took,
                wall=wall,
                cpu=cpu_seconds() - cpu,
                peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                operations=counter.total / works * self._share if counter else 0,
                precision=self.precision,
            )
        raise SystemExit

    def _tell(self, **values: Any) -> None:
        print(json.dumps(values), file=self._answers, flush=True)


def cpu_seconds() -> float:
    """What this process and the children it waited for have used."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _operations(wanted: bool) -> AbstractContextManager[Any]:
    """Counts operations of networks."""
    if not wanted:
        return nullcontext()
    from racing.operations import Operations

    return Operations()
