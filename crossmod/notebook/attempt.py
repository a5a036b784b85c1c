"""The last attempt to run what is in a run folder, as `crossmod watch` tells of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from crossmod.errors import DataError
from crossmod.progress.looks import looks
from crossmod.progress.state import RunState, read_state

State = Literal["running", "finished", "failed", "interrupted", "unfinished"]
"""Of an attempt; unfinished where it was killed, or nothing is told of it."""


def last_told(folder: Path) -> RunState | None:
    """What the last attempt told last; None where it told nothing that can be read."""
    return _told(folder)[1]


def state_of(folder: Path) -> State | None:
    """How the last attempt is doing, or how it ended; None where it told nothing.

    Whether an attempt without an end still works takes some seconds to see.
    """
    place, _ = _told(folder)
    if place is None:
        return None
    look = next(look for look in looks(place) if look.is_sure)
    if look.state.state == "working":
        return "unfinished" if look.silent_s else "running"
    return look.state.state


def _told(folder: Path) -> tuple[Path, RunState] | tuple[None, None]:
    """Where an attempt told what: in the folder itself, or in that of all variants and seeds."""
    for place in (folder, folder.absolute().parent):
        with suppress(DataError):
            return place, read_state(place)
    return None, None
