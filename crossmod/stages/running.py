"""Other programs that work for a stage: heard line by line, and ended with its step."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from crossmod.errors import MachineError, PluginError
from crossmod.stages.guard import programs

if TYPE_CHECKING:
    from crossmod.stages.context import Context

LAST_LINES = 20
"""Lines that the error about a failed program repeats."""

LOOK_S = 0.1
"""How often to look for new lines, and whether the run is to stop."""

TELL_S = 1.0
"""How often to tell that the program works."""

LABEL = 60
"""Letters of its last line that are told with it."""

REST_S = 10.0
"""Longest wait for what a program has printed, if something that it left still holds the pipe."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colors and other commands to a terminal."""


def room(ctx: Context) -> Path:
    """See `Context.keep`."""
    if ctx.checkpoints is not None:
        folder = ctx.checkpoints.keep
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.mkdtemp(prefix="crossmod-keep-"))  # in a test
    weakref.finalize(ctx, shutil.rmtree, folder, ignore_errors=True)
    return folder


def run(
    ctx: Context, command: Sequence[str | Path], cwd: Path | None, env: Mapping[str, str]
) -> None:
    """See `Context.run`."""
    words = _words_of(command)
    _require_texts(env)
    name = _name_of(words)
    if ctx.checkpoints is not None and not ctx.checkpoints.to_the_end:
        raise PluginError(
            f"starts {name}, which has no first steps to measure",
            fix="set `probes = False` in the class of the stage",
        )
    heard = Heard(ctx, name)
    try:
        code = _ended_with(heard, words, ctx.folder if cwd is None else Path(cwd), env)
    finally:
        heard.tell_rest()
    if code:
        raise _failure(name, code, heard.last)


def _words_of(command: object) -> list[str]:
    """The program and its arguments.

    Raises:
        PluginError: they are anything but texts and paths, in order.
    """
    words: list[Any] = []
    if isinstance(command, Iterable) and not isinstance(command, str):
        words = list(command)
    if not words or not words[0] or not all(isinstance(word, str | Path) for word in words):
        raise PluginError(
            f"calls ctx.run with the command {command!r:.80}",
            allowed='a list of texts and paths, the program first, as in ["train", "--folds", "5"]',
        )
    return [os.fspath(word) for word in words]


def _require_texts(env: Mapping[str, str]) -> None:
    """Refuse variables that no program can get.

    Raises:
        PluginError: names the first of them.
    """
    for name, value in env.items():
        if not (isinstance(name, str) and isinstance(value, str | Path)):
            raise PluginError(
                f"calls ctx.run with the variable {name!r:.80} = {value!r:.80}",
                allowed="texts",
                fix="pass str(value)",
            )


def _name_of(words: Sequence[str]) -> str:
    """What a program is called in messages; a Python script by its own name."""
    first, *rest = (Path(word).name for word in words)
    is_script = first.startswith("python") and rest and rest[0].endswith(".py")
    return rest[0] if is_script else first


def _ended_with(heard: Heard, words: list[str], cwd: Path, env: Mapping[str, str]) -> int:
    """Run a program; its exit code. Nothing that it has started is left."""
    spare, ctx = programs.children(), heard.ctx
    with programs.ended(heard.name, lambda text: ctx.log(f"warning: {text}")):
        process = _started(words, heard.name, cwd, env)
        heard.listen(process.stdout)
        try:
            _attend(process, heard)
        except BaseException:
            programs.end(spare)
            raise
        finally:
            code = process.poll()
    return code or 0


def _attend(process: subprocess.Popen[bytes], heard: Heard) -> None:
    """Tell what a program prints, and once a second its last line, until it ends.

    How far it is nobody knows, so each second is a loop of its own that counts nothing.

    Raises:
        Interrupted: the run is to stop.
    """
    told = -TELL_S
    while process.poll() is None:
        heard.tell()
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            for _ in heard.ctx.progress(iter([None]), label=heard.label):
                pass


class Heard:
    """What a program prints, read by a thread and told by the one that asks.

    Attributes:
        last: its last lines.
    """

    def __init__(self, ctx: Context, name: str) -> None:
        self.ctx, self.name = ctx, name
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._heard_at = time.monotonic()
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._reader: Thread | None = None

    @property
    def label(self) -> str:
        """What a program does, as far as its last line tells, and for how long it has said none."""
        minutes = int((time.monotonic() - self._heard_at) / 60)
        silence = f" (silent for {minutes} min)" if minutes else ""
        line = f": {' '.join(self.last[-1].split())}"[:LABEL] if self.last else ""
        return f"{self.name}{silence}{line}"

    def listen(self, printed: IO[bytes] | None) -> None:
        """Read lines from now on."""
        assert printed is not None
        self._reader = Thread(target=self._read, args=(printed,), daemon=True)
        self._reader.start()

    def tell(self) -> None:
        """Log what is there, after a short wait for it."""
        try:
            line = self._lines.get(timeout=LOOK_S)
            while True:
                self._log(line)
                line = self._lines.get_nowait()
        except Empty:
            return

    def tell_rest(self) -> None:
        """Log the rest, once nobody is left who could print."""
        if self._reader is not None:
            self._reader.join(REST_S)
        while not self._lines.empty():
            self._log(self._lines.get())

    def _read(self, printed: IO[bytes]) -> None:
        with printed:
            for line in printed:
                self._lines.put(line)

    def _log(self, line: bytes) -> None:
        # A progress bar draws over itself: what it showed last counts.
        drawn = line.decode("utf-8", "replace").rstrip().rpartition("\r")[2]
        if text := ESCAPES.sub("", drawn).rstrip():
            self.last.append(text)
            self._heard_at = time.monotonic()
            self.ctx.log(f"{self.name}: {text}")


def _started(
    words: list[str], name: str, cwd: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program; one that is installed beside this Python is preferred.

    Raises:
        MachineError: there is none, or it cannot be started.
    """
    whole = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
    beside = str(Path(sys.executable).parent)
    found = shutil.which(words[0], path=os.pathsep.join([beside, whole.get("PATH", os.defpath)]))
    if found is None:
        raise MachineError(
            f"the program {words[0]} was not found",
            allowed=f"a program in {beside} or on PATH, or a path to one",
            fix=f"install {name} where crossmod is installed",
        )
    try:
        return subprocess.Popen(
            [found, *words[1:]],
            cwd=cwd,
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for crossmod
        )
    except OSError as error:
        if not cwd.is_dir():
            what = f"{name} cannot be started there: no such folder"
            raise MachineError(what, where=str(cwd)) from error
        raise MachineError(f"{name} cannot be started: {error.strerror}", where=found) from error


def _failure(name: str, code: int, last: Sequence[str]) -> PluginError:
    """What is known about a program that failed."""
    ended = f"ended with exit code {code}"
    if code < 0:
        ended = f"was killed by {signal.Signals(-code).name}"
    printed = [f"  {line}" for line in last] or ["  (it printed nothing)"]
    fix = "most likely memory was short" if -code == signal.SIGKILL else ""
    return PluginError("\n".join([f"{name} {ended}; its last lines:", *printed]), fix=fix)
