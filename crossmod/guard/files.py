"""Where a plugin may write; Python tells of files before they are opened for writing."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from crossmod.errors import PluginError

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = {
    "os.chmod": ((0,), 2),
    "os.link": ((1,), 3),
    "os.mkdir": ((0,), 2),
    "os.remove": ((0,), 1),
    "os.rename": ((0, 1), 2),
    "os.rmdir": ((0,), 1),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), None),
    "shutil.rmtree": ((0,), 1),
}
"""Audit event -> where among its arguments paths are, and what they are relative to."""

CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "TORCH_EXTENSIONS_DIR",
          "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR")  # fmt: skip
"""Variables that name folders where libraries keep what they have compiled or downloaded."""

USUAL_CACHES = ("~/.cache", "~/.triton", "~/.config/matplotlib", "~/Library/Caches")

DEVICES = ("/dev", "/proc")


class Rooms:
    """The folders a plugin may write into.

    Args:
        who: the plugin in messages.
        own: those of its step.
        closed: a folder where it may write nothing else.

    Attributes:
        fault: the first attempt to write elsewhere.
    """

    def __init__(self, who: str, own: Sequence[Path], closed: Path) -> None:
        named = [os.environ[name] for name in CACHES if os.environ.get(name)]
        usual = map(os.path.expanduser, USUAL_CACHES)
        self.who, self.folder = who, own[0]
        self.own = [os.path.realpath(folder) for folder in own]
        self.closed = os.path.realpath(closed)
        self.common = [
            os.path.realpath(folder)
            for folder in (tempfile.gettempdir(), sys.pycache_prefix, *named, *usual, *DEVICES)
            if folder
        ]
        self.fault: PluginError | None = None
        # Threads that are older than the work of the plugin are not its own: a lock shows that its
        # owner is alive, for instance.
        self.older = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def require(self, event: str, path: Any) -> None:
        """Let a change of a file happen, or not.

        Raises:
            PluginError: the file lies where the plugin has no business.
        """
        place = _place(path, follow=event == "open")
        if self._open(place) or (event == "os.mkdir" and self._needless(place)):
            return
        error = PluginError(
            f"writes outside of its folder: {place} ({event})",
            where=self.who,
            allowed=f"ctx.folder ({self.folder}) and temporary files",
        )
        self.fault = self.fault or error
        raise error

    def _open(self, place: str) -> bool:
        if any(_within(place, folder) for folder in self.own) or "__pycache__" in place:
            return True
        return not _within(place, self.closed) and any(_within(place, one) for one in self.common)

    def _needless(self, place: str) -> bool:
        """Whether a folder is there, or will hold one that is allowed."""
        return Path(place).is_dir() or any(_within(one, place) for one in self.own + self.common)


def _place(path: Any, follow: bool) -> str:
    """Where a path leads; a name that is to be changed is not followed if it is a link."""
    absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    if follow:
        return os.path.realpath(absolute)
    folder, name = os.path.split(absolute)
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118


def _within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


_rooms: Rooms | None = None
_trust = threading.local()


@contextmanager
def watched(rooms: Rooms) -> Iterator[Rooms]:
    """While this block runs, this process writes into these rooms only."""
    global _rooms
    _listen()
    _rooms = rooms
    try:
        yield rooms
    finally:
        _rooms = None


def trusted(call: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """What the core does when a plugin calls it: may write anywhere."""

    @wraps(call)
    def free(*arguments: ParametersT.args, **named: ParametersT.kwargs) -> ResultT:
        before, _trust.full = getattr(_trust, "full", False), True
        try:
            return call(*arguments, **named)
        finally:
            _trust.full = before

    return free


@cache
def _listen() -> None:
    """Let Python call `_hear` from now on; that cannot be taken back."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    rooms = _rooms
    if rooms is None or not (event == "open" or event in CHANGES):
        return
    if threading.get_ident() in rooms.older or getattr(_trust, "full", False):
        return
    if event == "open":
        path, _, flags = arguments
        changed = [path] if flags & WRITING else []
    else:
        places, base = CHANGES[event]
        relative = base is not None and arguments[base] not in (None, -1)
        # `shutil.rmtree` goes on relative to open folders; it has named the first one by then.
        changed = [] if relative else [arguments[place] for place in places]
    for one in changed:
        if not isinstance(one, int):  # a file that is open by now
            rooms.require(event, one)
