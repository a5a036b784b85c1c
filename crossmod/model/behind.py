"""Work on what was found last, while the next is found."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Behind(Generic[ItemT]):
    """Hands items to a thread that works on one at a time, in their order.

    At most one item is worked on beside the one that the caller has: giving the next waits for the
    last. Leaving the block does, too, whatever ends it. What the work raises is raised by whichever
    comes next: a call, `check`, or the end of the block.

    Args:
        work: called with each item, in the other thread.

    Example:
        >>> found = []
        >>> with Behind(found.append) as behind:
        ...     for letter in "abc":
        ...         behind(letter)
        >>> found
        ['a', 'b', 'c']
    """

    def __init__(self, work: Callable[[ItemT], None]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, "behind")
        self._last: Future[None] | None = None

    def __enter__(self) -> Behind[ItemT]:
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.check()

    def __call__(self, item: ItemT) -> None:
        """Work on an item as soon as the last is done."""
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._work, item)

    def check(self) -> None:
        """Raise what the work has raised, without waiting for it."""
        if self._last is not None and self._last.done():
            self._last.result()
