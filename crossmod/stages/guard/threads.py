"""Threads that outlive the work of a plugin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from weakref import WeakKeyDictionary

PATIENCE_S = 0.5
"""How long a thread may take to end that was told to."""

_left: WeakKeyDictionary[Thread, str] = WeakKeyDictionary()


@contextmanager
def counted(who: str, warn: Callable[[str], None]) -> Iterator[None]:
    """Record the threads that a plugin starts in this block and leaves running.

    Args:
        who: the plugin in warnings.
        warn: takes a line that names them.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        begun = [thread for thread in threading.enumerate() if thread not in before]
        _left.update(dict.fromkeys(begun, who))
        if names := sorted(thread.name for thread in begun if _goes_on(thread)):
            warn(f"{who} left threads running: {', '.join(names)}")


def _goes_on(thread: Thread) -> bool:
    # Libraries keep idle pools and monitoring daemons.
    if thread.daemon or "Executor" in f"{type(thread).__name__} {thread.name}":
        return False
    thread.join(PATIENCE_S)
    return thread.is_alive()


def preexisting_threads() -> set[Thread]:
    """The other threads, without those that plugins left; the heartbeat of a lock is among them."""
    return set(threading.enumerate()) - set(_left) - {threading.current_thread()}


def owner_of(thread: Thread) -> str | None:
    """The plugin that left a thread running."""
    return _left.get(thread)
