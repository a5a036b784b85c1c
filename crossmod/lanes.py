"""Pieces of work side by side in threads, where most of it leaves Python's lock to the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST = 8
"""Pieces worked on at once at most: each holds a volume or more in memory."""


class Map(Protocol):
    """What the built-in ``map`` is."""

    def __call__(
        self, work: Callable[[ItemT], ResultT], items: Iterable[ItemT], /
    ) -> Iterator[ResultT]:
        """What work makes of each item, in their order."""


def cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def lanes(count: int) -> Iterator[Map]:
    """A ``map`` that works on up to ``count`` items at once, at most `MOST`.

    Results and errors come in the order of the items. When the block ends, early or by an error,
    nothing more is begun, and what was begun has ended.

    Example:
        >>> with lanes(2) as side_by_side:
        ...     list(side_by_side(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    if count < 2:
        yield map
        return
    with ThreadPoolExecutor(min(count, MOST), "lane") as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
