"""Contain the mistakes of a plugin while it works.

A plugin may write only where its results belong; the process state that it changes is restored.
This does not protect against malice: a plugin is code that can do whatever its user can. The guard
misses writes by libraries in C, C++ or Rust (`torch.save`, SimpleITK, safetensors, HDF5), by other
programs and by spawned processes, and `os.mkfifo` and `os.mknod`, which Python does not audit.
Programs that a plugin starts end with its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crossmod.errors import PluginError
from crossmod.stages.guard.files import WriteGuard, trusted, watched
from crossmod.stages.guard.process import kept
from crossmod.stages.guard.programs import ended
from crossmod.stages.guard.threads import counted
from crossmod.stages.guard.words import described, is_out_of_memory, line_in, text_of, told

__all__ = ["described", "guarded", "is_out_of_memory", "line_in", "text_of", "told", "trusted"]


@contextmanager
def guarded(
    who: str,
    seed: int,
    own: Sequence[Path],
    closed: Path,
    warn: Callable[[str], None],
) -> Iterator[None]:
    """Guard a plugin that works in this block.

    Global random numbers are seeded first, so that a plugin which uses them by mistake gives the
    same results whatever ran before.

    Args:
        who: the plugin in messages.
        seed: for the global random numbers.
        own: folders it may write into.
        closed: where it may write nothing else, even if caches or temporary files lie there.
        warn: takes a line about restored state, and about threads and programs left running.

    Raises:
        PluginError: it writes elsewhere, even if it catches the error and continues, or tries to
            end the program.
    """
    with (
        kept(who, seed, warn),
        watched(WriteGuard(who, own, closed)) as writes,
        counted(who, warn),
        ended(who, warn),
    ):
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if writes.fault is not None and writes.fault is not error:
                raise writes.fault from error
            if isinstance(error, Exception):
                raise
            raise PluginError(f"tries to end the program: {described(error)}", where=who) from error
    if writes.fault is not None:
        raise writes.fault
