"""Programs that a plugin starts, and what they start: they end with its step.

On Linux, the nearest ancestor that has asked for it adopts a process whose parent has ended. So a
program stays below ours even in its own session. Other systems lose track of such orphans.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 0.5
"""How long a program may take to end that was told to do so before its step ended."""

ASK_S = 1.0
"""How long a program may take to end after SIGTERM; then it is killed."""

KILL_S = 5.0
"""Longest wait for killed programs to disappear."""

SET_DEATH_SIGNAL, SET_SUBREAPER, GET_SUBREAPER = 1, 36, 37  # of prctl(2)

HELPERS = ("multiprocessing.resource_tracker", "loky.backend", "_inductor/compile_worker")
"""Idle helpers of libraries (Python, joblib, torch), which end with the process that they serve."""

PROC = Path("/proc")


class Process(NamedTuple):
    """A process that was seen.

    Attributes:
        pid: its number.
        parent: that of its parent.
        ended: whether it is a zombie: it has ended, and its parent has not waited for it.
    """

    pid: int
    parent: int
    ended: bool


@contextmanager
def ended(who: str, warn: Callable[[str], None]) -> Iterator[None]:
    """End the programs that this block starts when it ends, for whatever reason.

    Args:
        who: the plugin in warnings.
        warn: takes a line that names what was left running.
    """
    before, adopting = children(), adopt(True)
    try:
        yield
    finally:
        left = end(before, PATIENCE_S)
        adopt(adopting)
        if left:
            warn(f"{who} left programs running: {', '.join(left)}; crossmod ended them")


def adopt(wanted: bool) -> bool:
    """Choose whether this process adopts its orphaned descendants.

    Returns:
        Whether that was so before.
    """
    if sys.platform != "linux":
        return False
    call, before = ctypes.CDLL(None).prctl, ctypes.c_int(0)
    call(GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    call(SET_SUBREAPER, int(wanted), 0, 0, 0)
    return bool(before.value)


def children() -> set[int]:
    """The processes right below this one."""
    return {one.pid for one in _processes() if one.parent == os.getpid()}


def end(spare: Collection[int] = (), patience_s: float = 0.0) -> list[str]:
    """End all programs below this process; kill them at once on Ctrl-C.

    Args:
        spare: children that stay, and what is below them.
        patience_s: how long to wait for those that end by themselves.

    Returns:
        The names of those that did not.
    """
    names: list[str] = []
    try:
        if _wait(spare, patience_s):
            names = sorted({_name_of(pid) for pid in _below(spare)})
            _signal(_below(spare), signal.SIGTERM)
            _wait(spare, ASK_S)
    finally:
        _kill(spare)
    return names


def _kill(spare: Collection[int]) -> None:
    until = time.monotonic() + KILL_S
    while (left := _below(spare)) and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        time.sleep(0.01)


def end_orphans(known: Collection[int]) -> None:
    """End what a dead child has left: children that are new and not in our session.

    Args:
        known: children of this process that were started here.
    """
    ours = os.getsid(0)
    end({pid for pid in children() if pid in known or _session(pid) == ours})


def pause() -> list[int]:
    """Stop all programs below this process, parents first; returns what `resume` takes."""
    stopped: list[int] = []
    while new := [pid for pid in _tree(()) if pid not in stopped]:  # one may just have started
        _signal(new, signal.SIGSTOP)
        stopped += new
    return stopped


def resume(stopped: Collection[int]) -> None:
    """Let programs continue that `pause` has stopped."""
    _signal(stopped, signal.SIGCONT)


def resume_without_parent() -> None:
    """Let this process continue by itself where its parent is killed while both are paused."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, int(signal.SIGCONT), 0, 0, 0)


def end_with_parent(line: int) -> None:
    """End this process, and all below it, when its parent has ended.

    Args:
        line: the read end of a pipe; the parent holds the other end, and writes nothing into it.
    """
    threading.Thread(target=_wait_for_end, args=(line,), daemon=True).start()


def _wait_for_end(line: int) -> None:
    while os.read(line, 1):
        pass
    end()
    os._exit(1)


def _wait(spare: Collection[int], seconds: float) -> bool:
    """Wait for programs to end; returns whether some did not."""
    until = time.monotonic() + seconds
    while _below(spare):
        if time.monotonic() >= until:
            return True
        time.sleep(0.02)
    return False


def _signal(processes: Collection[int], number: int) -> None:
    for pid in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _below(spare: Collection[int]) -> list[int]:
    """The running processes below this one; children that have ended are reaped."""
    ours = os.getpid()
    for one in _processes():
        if one.ended and one.parent == ours and one.pid not in spare:
            with suppress(ChildProcessError):
                os.waitpid(one.pid, os.WNOHANG)
    return _tree(spare)


def _tree(spare: Collection[int]) -> list[int]:
    """The running processes below this one, parents first."""
    found: dict[int, list[Process]] = {}
    for one in _processes():
        found.setdefault(one.parent, []).append(one)
    new = [one for one in found.get(os.getpid(), []) if one.pid not in spare]
    below = [one for one in new if not (one.ended or _helps(one.pid))]
    for one in below:  # grows
        below += [inner for inner in found.get(one.pid, []) if not inner.ended]
    return [one.pid for one in below]


def _processes() -> list[Process]:
    """All processes that can be seen."""
    if not (PROC / "self" / "stat").exists():
        return _listed()
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # gone by now
                # A name in parentheses comes before; it may hold anything.
                state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                found.append(Process(int(folder.name), int(parent), state in b"ZX"))
    return found


def _listed() -> list[Process]:
    """All processes, where a system shows them by `ps` only."""
    ask = ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "stat="]
    with suppress(OSError), subprocess.Popen(ask, stdout=subprocess.PIPE, text=True) as asked:
        rows = [line.split() for line in asked.communicate()[0].splitlines()]
        found = [Process(int(row[0]), int(row[1]), row[2].startswith("Z")) for row in rows]
        return [one for one in found if one.pid != asked.pid]
    return []


def _helps(pid: int) -> bool:
    words = ""
    with suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_text("utf-8", "replace")
    return any(helper in words for helper in HELPERS)


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
    return f"process {pid}"


def _session(pid: int) -> int:
    with suppress(OSError):
        return os.getsid(pid)
    return -1
