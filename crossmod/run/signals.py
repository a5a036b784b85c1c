"""Signals that ask the program to stop: the first asks, the second leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from crossmod.errors import Interrupted

if TYPE_CHECKING:
    from crossmod.run.schedule import StopSign

NAMES = ("SIGINT", "SIGTERM", "SIGUSR2", "SIGHUP")
"""Ctrl-C, the system, Slurm before its time limit, a closed terminal."""


@contextmanager
def stop_on_signal(sign: StopSign, leave: Callable[[], None]) -> Iterator[None]:
    """While this block runs, signals raise a sign instead of ending the program.

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
