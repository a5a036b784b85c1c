"""The command line and its workers, forked from a process that has loaded what they need.

Starting Python and loading torch takes seconds, most commands far less. Whatever is about a start,
a terminal, a clock or a look at figures runs `crossmod` itself.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import DEVNULL, CompletedProcess, TimeoutExpired
from typing import IO, Any

from crossmod.run.execute import Maker
from crossmod.run.signals import NAMES
from crossmod.run.task import Task

LOADED = (
    "crossmod.cli",
    "crossmod.cost.probing",
    "crossmod.model.load",
    "crossmod.recipe.load",
    "crossmod.report",
    "crossmod.run.publish",
    "crossmod.run.schedule",
    "crossmod.store.collect",
    "crossmod.torch",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "monai.inferers",
    "nibabel",
    "rich.progress",
    "torch._dynamo",
)
"""Not `crossmod.console`, which looks at its terminal as it is loaded, nor any plugin."""

MODULES = ("crossmod.engines.worker", "crossmod.cost.probe")
"""What a command starts as `python -P -m`; a command that was forked forks them, too."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LOADED])


def heed_signals() -> None:
    """Tests that run in the background, or under nohup, inherit that signals are ignored."""
    for name in NAMES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def crossmod(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> CompletedProcess[str]:
    """Run `crossmod` in a folder, to its end."""
    process = Command(arguments, folder, environment)
    stdout, stderr = process.communicate()
    assert process.returncode is not None
    return CompletedProcess(arguments, process.returncode, stdout, stderr)


class Command:
    """`crossmod`, started in a folder: what is used of `subprocess.Popen`."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._printed = tempfile.TemporaryDirectory()
        self._streams = [Path(self._printed.name, name) for name in ("stdout", "stderr")]
        given = (arguments, folder, dict(environment), self._streams)
        self._process = CONTEXT.Process(target=_command, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it printed."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired("crossmod", timeout or 0.0)
        with self._printed:
            texts = [one.read_text("utf-8") if one.exists() else "" for one in self._streams]
        return texts[0], texts[1]


def _command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], streams: Sequence[Path]
) -> None:
    os.setsid()
    heed_signals()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
    if paths := environment.get("PYTHONPATH"):
        sys.path[:0] = paths.split(os.pathsep)
    subprocess.Popen = _popen  # type: ignore[assignment, misc]
    _draw_in_a_hurry()
    sys.argv = ["crossmod", *arguments]
    import_module("crossmod.cli").main()


def _draw_in_a_hurry() -> None:
    """No PDF, and labels where they fall: of a short run, its report takes most of the time."""
    import_module("crossmod.report.figures").FORMATS = ("svg",)
    engine = import_module("matplotlib.layout_engine").ConstrainedLayoutEngine
    engine.execute = lambda self, figure: None


_Popen = subprocess.Popen


def _popen(args: Any, *more: Any, **how: Any) -> Any:
    forked = isinstance(args, list) and args[:3] == [sys.executable, "-P", "-m"]
    return Module(args, **how) if forked and args[3] in MODULES else _Popen(args, *more, **how)


class Module:
    """What is used of `subprocess.Popen`, for a module that runs in a fork of this process."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        stdout: IO[Any] | int,
        stderr: IO[Any] | int,
        **usual: Any,
    ) -> None:
        self.args = args
        sys.stdout.flush()
        fork = multiprocessing.get_context("fork")
        target = (args[3:], dict(env), pass_fds, (stdout, stderr))
        self._process = fork.Process(target=_module, args=target)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *unused: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[None, None]:
        self.wait(timeout)
        return None, None

    def kill(self) -> None:
        self._process.kill()


def _module(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    kept: Sequence[int],
    streams: Sequence[IO[Any] | int],
) -> None:
    os.setsid()
    heed_signals()
    for number, stream in enumerate(streams, start=1):
        device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(device if stream == DEVNULL else stream.fileno(), number)  # type: ignore[union-attr]
    edges = [2, *sorted([*kept, resource_tracker.getfd()]), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(edges):
        os.closerange(low + 1, high)  # a lock ends with the command that holds it
    os.environ.clear()
    os.environ.update(environment)
    import_module("torch").set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv = [*arguments]
    import_module(arguments[0]).main()


def made(task: Task, **variables: str) -> tuple[int | None, str]:
    """Make a task as a worker does; the exit code of the process, and what went wrong."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_make, args=(task, variables, theirs))
    process.start()
    theirs.close()
    process.join()
    try:
        return process.exitcode, ours.recv()
    except EOFError:
        return process.exitcode, ""


def _make(task: Task, variables: Mapping[str, str], answer: Connection) -> None:
    os.environ.update(variables)
    answer.send(str(Maker(task).outcome().error))
