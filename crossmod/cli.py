"""The command line: its commands, and how errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.commands import data, new
from crossmod.commands.doctor import doctor
from crossmod.commands.models import package, predict
from crossmod.commands.plugins import plugins
from crossmod.commands.recipes import recipe, schema
from crossmod.commands.run import check, run
from crossmod.commands.scores import compare, evaluate, rank
from crossmod.commands.store import gc, runs
from crossmod.commands.view import view
from crossmod.commands.watch import watch
from crossmod.errors import CrossmodError, Interrupted, MachineError
from crossmod.files.atomic import CANNOT_WRITE

if TYPE_CHECKING:
    from typing_extensions import Buffer

app = typer.Typer(
    help="Teach a segmentation model a modality nobody has labeled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose panels cut names of options in narrow terminals
    add_completion=False,
)
app.command()(run)
app.command()(watch)
app.command()(check)
app.command()(package)
app.command()(predict)
app.command()(evaluate)
app.command()(rank)
app.command()(compare)
app.command()(view)
app.command()(plugins)
app.command()(schema)
app.command()(doctor)
app.command()(runs)
app.command()(gc)
new.app.command()(recipe)
app.add_typer(new.app, name="new")
app.add_typer(data.app, name="data")
for one in [command for a in (app, new.app, data.app) for command in a.registered_commands]:
    one.short_help = (one.callback.__doc__ or "").partition("\n")[0]  # else the list cuts it

DEBUG = "CROSSMOD_TRACEBACK"
ONLY_SHOW = ("watch",)
"""Commands that end with their reader: they only print, and would never end by themselves."""
GENERAL = ("--traceback", "--no-traceback")
"""Options of every command, which may stand before or behind it."""


def _tell_version(asked: bool) -> None:
    if asked:
        from crossmod import __version__

        typer.echo(f"crossmod {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version."),
    ] = False,
    traceback: Annotated[bool, typer.Option(help="Show the Python traceback of an error.")] = False,
) -> None:
    """Options that every command takes."""
    if traceback:
        os.environ[DEBUG] = "1"
    if ctx.invoked_subcommand not in ONLY_SHOW:
        _outlive_readers()


def main() -> None:
    """Run the command line; errors become messages and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # none where it was closed
            stream.reconfigure(errors="replace")  # a terminal may know ASCII only
    try:
        with _exit_cleanly():
            app(_general_first(sys.argv[1:]))
    except CrossmodError as error:
        _stop(error, error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        _stop(_of_machine(error), MachineError.exit_code)
    except KeyboardInterrupt:
        interrupted = MachineError(
            "interrupted", fix="finished steps are kept; rerun the same command to resume"
        )
        _stop(interrupted, 5)


class Unread(FileIO):
    """An output whose reader may leave, as behind `| head`; the program continues."""

    def write(self, content: Buffer) -> int:
        """Write, to nowhere once the reader is gone."""
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(content)


def _outlive_readers() -> None:
    """Let commands store their results though nobody reads what they print."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__") or stream.isatty():
            continue
        stream.flush()
        raw = Unread(stream.fileno(), "w", closefd=False)
        lines = TextIOWrapper(
            BufferedWriter(raw),
            stream.encoding,
            stream.errors,
            line_buffering=stream.line_buffering,
        )
        setattr(sys, name, lines)


def _general_first(arguments: list[str]) -> list[str]:
    """Let the options of every command stand anywhere, before what comes after ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    general = [one for one in arguments[:end] if one in GENERAL]
    return general + [one for one in arguments[:end] if one not in GENERAL] + arguments[end:]


@contextmanager
def _exit_cleanly() -> Iterator[None]:
    """Exit cleanly in this block when the system or a closed terminal ends the program.

    Temporary files, which hold scans, are then removed. A second signal exits at once.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        for one in taken:
            signal.signal(one, signal.SIG_DFL)
        sys.exit(Interrupted.exit_code)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [one for one in wanted if signal.getsignal(one) is signal.SIG_DFL]  # nohup: ignored
    for one in taken:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


def _of_machine(error: OSError) -> MachineError:
    """An OSError as a message for the user."""
    fix = "check the disk" if error.errno in CANNOT_WRITE else ""
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "check the permissions there"
    return MachineError(error.strerror or str(error), where=str(error.filename or ""), fix=fix)


def _stop(error: CrossmodError, exit_code: int) -> None:
    from crossmod.console import show_error

    if os.environ.get(DEBUG):
        raise error
    show_error(error)
    sys.exit(exit_code)
