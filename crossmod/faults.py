"""Faults on demand, so that every way to fail is an ordinary test.

`CROSSMOD_FAULT=step:point:action` makes the named step fail at the named point; both may hold `*`,
and several faults are separated by `;`. Points are in the store, around a step and in the loops of
trainings; actions are `kill` (SIGKILL), `raise`, `enospc` (disk full), `eio` (once), and
`sleep=SECONDS`.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase

FAULT = "CROSSMOD_FAULT"
TRACE = "CROSSMOD_FAULT_TRACE"
"""A file that gets a line `step:point` for every point that is passed."""

_step: ContextVar[str] = ContextVar("step", default="run")
_happened: set[str] = set()


@contextmanager
def during(step: str) -> Iterator[None]:
    """Points passed in this block belong to a step."""
    token = _step.set(step)
    try:
        yield
    finally:
        _step.reset(token)


def point(name: str) -> None:
    """A place where a test may let the program fail.

    Raises:
        RuntimeError, OSError: the fault that was asked for.
    """
    wanted = os.environ.get(FAULT)
    if wanted is None:
        return
    if trace := os.environ.get(TRACE):
        with open(trace, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{_step.get()}:{name}\n")
    for fault in filter(None, wanted.split(";")):
        step, place, action = fault.rsplit(":", 2)
        if fnmatchcase(_step.get(), step) and fnmatchcase(name, place):
            _fail(fault, action)


def _fail(fault: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise RuntimeError(f"fault {fault}")
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fault)
    elif action == "eio" and fault not in _happened:
        _happened.add(fault)
        raise OSError(errno.EIO, os.strerror(errno.EIO), fault)
    elif action.startswith("sleep="):
        time.sleep(float(action.removeprefix("sleep=")))
