"""The command line and its workers, forked from a process that has loaded what they need.

Starting Python and loading torch takes seconds, most commands far less. Whatever is about a start,
a terminal or a clock runs `crossmod` itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess

from crossmod.run.execute import Maker
from crossmod.run.signals import NAMES
from crossmod.run.task import Task

LOADED = (
    "crossmod.cli",
    "crossmod.cost.probing",
    "crossmod.model.load",
    "crossmod.recipe.load",
    "crossmod.run.publish",
    "crossmod.run.schedule",
    "crossmod.store.collect",
    "crossmod.torch",
    "matplotlib.backends.backend_agg",
    "monai.inferers",
    "monai.networks.nets.dynunet",
    "nibabel",
    "rich.progress",
    "torch._dynamo",
)
"""Not `crossmod.console`, which looks at its terminal as it is loaded, nor any plugin."""

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
    with tempfile.TemporaryDirectory() as printed:
        streams = [Path(printed, name) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(
            target=_command, args=(arguments, folder, dict(environment), streams)
        )
        process.start()
        process.join()
        stdout, stderr = (path.read_text("utf-8") if path.exists() else "" for path in streams)
    assert process.exitcode is not None
    return CompletedProcess(arguments, process.exitcode, stdout, stderr)


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
    sys.argv = ["crossmod", *arguments]
    from crossmod.cli import main

    main()


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
