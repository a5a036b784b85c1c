"""Where a plugin may write: Python audits files before it opens them for writing."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from crossmod.errors import PluginError
from crossmod.stages.guard.places import database, place_of
from crossmod.stages.guard.threads import owner_of, preexisting_threads

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Argument(NamedTuple):
    """A path among the arguments of an audit event.

    Attributes:
        path: its place among them.
        folder: the place of the open folder it is relative to, if the event reports it.
        follow: whether the system follows a link, or may do so.
    """

    path: int
    folder: int | None = None
    follow: bool = False


CHANGES = {
    "os.chmod": [Argument(0, 2, follow=True)],
    "os.chown": [Argument(0, 3, follow=True)],
    # Who has a second name for a file can write to it.
    "os.link": [Argument(0, 2, follow=True), Argument(1, 3)],
    "os.mkdir": [Argument(0, 2)],
    "os.remove": [Argument(0, 1)],
    "os.removexattr": [Argument(0, follow=True)],
    "os.rename": [Argument(0, 2), Argument(1, 3)],
    "os.rmdir": [Argument(0, 1)],
    "os.setxattr": [Argument(0, follow=True)],
    "os.symlink": [Argument(1, 2)],
    "os.truncate": [Argument(0, follow=True)],
    "os.utime": [Argument(0, 3, follow=True)],
    "shutil.rmtree": [Argument(0, 1)],
}
"""Audit event -> the files it changes. For `os.open` Python does not report the open folder."""

CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "TORCH_EXTENSIONS_DIR",
          "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR")  # fmt: skip
"""Variables that name folders where libraries keep what they have compiled or downloaded."""

USUAL_CACHES = ("~/.cache", "~/.triton", "~/.config/matplotlib", "~/Library/Caches")

DEVICES = ("/dev", "/proc")

PYCACHE = "__pycache__"
COMPILED = re.compile(r".+\.(pyc|nbi|nbc)(\..+)?")
"""Compiled code of Python and of numba; drafts of such files have longer endings."""

SQLITE = "sqlite3.connect"


class WriteGuard:
    """The folders a plugin may write into.

    Args:
        who: the plugin in messages.
        own: those of its step.
        closed: a folder where it may write nothing else.

    Attributes:
        fault: the first attempt to write elsewhere.
        preexisting: threads that are not the plugin's.
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
        self.preexisting = preexisting_threads()

    def require(self, event: str, place: str) -> None:
        """Refuse a change of a file outside of the folders that are allowed.

        Raises:
            PluginError: the plugin may not write there.
        """
        if self._open(place) or (event == "os.mkdir" and self._needless(place)):
            return
        who = owner_of(threading.current_thread()) or self.who
        error = PluginError(
            f"writes outside of its folder: {place} ({event})",
            where=who,
            allowed=f"ctx.folder ({self.folder}) and temporary files",
        )
        if who == self.who:  # else the fault is an earlier plugin's
            self.fault = self.fault or error
        raise error

    def _open(self, place: str) -> bool:
        if any(_within(place, folder) for folder in self.own):
            return True
        if _within(place, self.closed):
            return False
        return _compiled(place) or any(_within(place, one) for one in self.common)

    def _needless(self, place: str) -> bool:
        """Whether a folder exists, or will hold one that is allowed."""
        return Path(place).is_dir() or any(_within(one, place) for one in self.own + self.common)


def _compiled(place: str) -> bool:
    """Whether Python keeps compiled code there."""
    path = Path(place)
    if path.name == PYCACHE:
        return True
    return path.parent.name == PYCACHE and COMPILED.fullmatch(path.name) is not None


def _within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


_active: WriteGuard | None = None
_trust = threading.local()


@contextmanager
def watched(writes: WriteGuard) -> Iterator[WriteGuard]:
    """Restrict writes of this process in this block to where the guard allows them."""
    global _active
    _listen()
    _active = writes
    try:
        yield writes
    finally:
        _active = None


def trusted(call: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Let a function of the core write anywhere, even when a plugin calls it."""

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
    """Register `_hear` as an audit hook; Python cannot remove one."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    writes = _active
    if writes is None or not (event in ("open", SQLITE) or event in CHANGES):
        return
    if getattr(_trust, "full", False) or threading.current_thread() in writes.preexisting:
        return
    for path, handle, follow in _changed(event, arguments):
        if not isinstance(path, int):  # a file that is open by now
            place = place_of(path, handle, follow)
            if place is not None:
                writes.require(event, place)


def _changed(event: str, arguments: tuple[Any, ...]) -> list[tuple[Any, int | None, bool]]:
    """The paths that an event changes, as `place_of` takes them."""
    if event == "open":
        path, _, flags = arguments
        return [(path, None, True)] if flags & WRITING else []
    if event == SQLITE:
        name = database(arguments[0])
        return [] if name is None else [(name, None, True)]
    return [
        (arguments[one.path], None if one.folder is None else arguments[one.folder], one.follow)
        for one in CHANGES[event]
    ]
