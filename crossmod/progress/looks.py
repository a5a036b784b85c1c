"""Look at a run again and again: how far it is, and whether it still works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crossmod.progress.state import RunState, read_state

LOOK_S = 1.0
SILENT_S = 20.0
"""A run tells how far it is every two seconds; after this long it may be dead."""

SURE_S = 5.0
"""A run that works has told something new by then, whatever the clocks of machines say."""


class Look(NamedTuple):
    """What a look at a run showed.

    Attributes:
        state: what the run told last.
        silent_s: for how many seconds it has told nothing; 0.0 as long as it may work.
        heard: whether it has told something new since the first look.
    """

    state: RunState
    silent_s: float
    heard: bool

    @property
    def is_sure(self) -> bool:
        """Whether it is known that the run works, is silent, or has ended."""
        return self.state.state != "working" or self.heard or self.silent_s > 0


def looks(folder: Path) -> Iterator[Look]:
    """Yield a look every second, until the run has ended.

    Raises:
        DataError: the folder tells nothing of a run.
    """
    silence = Silence()
    while True:
        state = read_state(folder)
        ended = state.state != "working"
        yield Look(state, 0.0 if ended else silence.seconds(state), silence.heard)
        if ended:
            return
        time.sleep(LOOK_S)


class Silence:
    """Measures for how long a run has told nothing.

    Clocks of machines differ. So the watcher's clock is compared with that of the run only where
    nothing new was told for a while.

    Attributes:
        heard: whether something new was told since the first state.
    """

    def __init__(self) -> None:
        self.heard = False
        self._told: float | None = None
        self._since = 0.0

    def seconds(self, state: RunState) -> float:
        """For how long nothing new was told; 0.0 up to `SILENT_S`."""
        now = time.monotonic()
        if state.told != self._told:
            self.heard = self._told is not None
            self._told, self._since = state.told, now
        silent = now - self._since
        if silent >= SURE_S and not self.heard:
            silent = max(silent, time.time() - state.told)
        return silent if silent > SILENT_S else 0.0
