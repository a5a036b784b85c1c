"""Contain the mistakes of a plugin while it works.

Files it may write lie where its results belong; what it changes in the process that other steps
share is put back. This is no protection against malice: a plugin is code that can do whatever its
user can. Writes by libraries in C, C++ or Rust are not seen (`torch.save`, SimpleITK, safetensors,
HDF5), nor are those of other programs and of processes that begin anew, nor `os.mkfifo` and
`os.mknod`, of which Python does not tell. Programs that it starts end with its work.
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
from crossmod.stages.guard.words import described, is_out_of_memory, text_of

__all__ = ["described", "guarded", "is_out_of_memory", "text_of", "trusted"]


@contextmanager
def guarded(
    who: str,
    seed: int,
    own: Sequence[Path],
    closed: Path,
    warn: Callable[[str], None],
) -> Iterator[None]:
    """While this block runs, a plugin works.

    Global random numbers begin anew, so that a plugin which uses them by mistake gives the same
    results whatever ran before.

    Args:
        who: the plugin in messages.
        seed: of the global random numbers.
        own: folders it may write into.
        closed: where it may write nothing else, even if caches or temporary files lie there.
        warn: takes a line about what was put back, and about threads and programs left running.

    Raises:
        PluginError: it writes elsewhere, even if it goes on as if nothing had happened, or tries
            to end the program.
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
