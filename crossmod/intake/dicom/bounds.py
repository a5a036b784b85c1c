"""What binds the child that parses DICOM: its memory, its time, and the life of its parent."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path

SPARE_S = 5
"""Processor time beyond the limit on time, so that it is the parent that says what happened."""

STACK_BYTES = 1 << 18
"""A thread reserves address space, which is limited."""


def limit(memory: int, seconds: float) -> int:
    """Limit address space and processor time of this process, as far as the system lets it.

    Returns:
        The address space it may take: less than asked for where the system allows less.
    """
    if os.name != "posix":
        return memory
    import resource

    _lower(resource.RLIMIT_CORE, 0)  # a core file would hold the scan
    _lower(resource.RLIMIT_CPU, math.ceil(seconds) + SPARE_S)
    return _lower(resource.RLIMIT_AS, memory)


def _lower(kind: int, most: int) -> int:
    import resource

    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with suppress(ValueError, OSError):  # not every system has every limit
        resource.setrlimit(kind, (most, most))
    return most


def end_with_parent(room: Path) -> None:
    """End this process, and remove what it wrote into ``room``, once its parent is gone.

    The parent holds the other end of the standard input and writes nothing into it.
    """
    before = threading.stack_size(STACK_BYTES)
    threading.Thread(target=_wait, args=(room,), daemon=True).start()
    threading.stack_size(before)


def _wait(room: Path) -> None:
    sys.stdin.buffer.read()
    gone = room.with_name(f"{room.name}-gone")
    with suppress(OSError):
        room.rename(gone)  # so that nothing more is put into it
    shutil.rmtree(gone, ignore_errors=True)
    os._exit(1)
