"""Signals that ask the program to stop or to pause."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from crossmod.errors import Interrupted
from crossmod.stages.guard import programs

if TYPE_CHECKING:
    from crossmod.run.schedule import StopSign

NAMES = ("SIGINT", "SIGTERM", "SIGUSR2", "SIGHUP")
"""Ctrl-C, the system, Slurm before its time limit, a closed terminal."""

PAUSES = ("SIGTSTP", "SIGTTIN", "SIGTTOU")
"""Ctrl-Z, and what stops a program in the background that uses its terminal."""


@contextmanager
def stop_on_signal(sign: StopSign, leave: Callable[[], None]) -> Iterator[None]:
    """While this block runs, the first signal raises a sign, and the second ends the program.

    Args:
        sign: raised by the first signal.
        leave: called by the second, before the program ends with exit code 5.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if sign:
            leave()
            os._exit(Interrupted.exit_code)
        sign.raised = True

    wanted = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup asked to ignore it
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def pause_together(before: Callable[[], object] = lambda: None) -> Iterator[None]:
    """While this block runs, Ctrl-Z pauses all programs below this one with it, until SIGCONT.

    The terminal itself stops those of our session only; workers, and what they start, have their
    own. SIGSTOP cannot be caught: who sends it stops this process alone.

    Args:
        before: called before Ctrl-Z pauses.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGTSTP:  # else the terminal is not ours
            before()
        stopped = programs.pause()
        os.kill(os.getpid(), signal.SIGSTOP)
        programs.resume(stopped)

    wanted = [getattr(signal, name) for name in PAUSES if hasattr(signal, name)]
    taken = [one for one in wanted if signal.getsignal(one) is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)
