"""`crossmod watch`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crossmod.progress.state import RunState

LOOK_S = 1.0
LINE_S = 60.0
SILENT_S = 20.0
"""A run tells how far it is every few seconds; after this long it may be dead."""


def watch(
    run: Annotated[Path, typer.Argument(help="A run folder, while its run works or afterwards.")],
    once: Annotated[bool, typer.Option("--once", help="Show the present state and leave.")] = False,
) -> None:
    """Show how far a run is; it only reads files, so any machine that sees the folder will do."""
    from crossmod import console
    from crossmod.progress.state import read_state

    state = read_state(run)
    if once or state.state != "working" or not console.out.is_terminal:
        _as_lines(run, once)
    else:
        _on_screen(run)


def _on_screen(run: Path) -> None:
    from rich.live import Live

    from crossmod import console
    from crossmod.console.state import state_screen

    with Live(console=console.out, refresh_per_second=2, vertical_overflow="crop") as live:
        for state, silent_s in _looks(run):
            live.update(state_screen(state, silent_s))


def _as_lines(run: Path, once: bool) -> None:
    """A screen where it is the only one; else a line for each step, once a minute."""
    from crossmod import console
    from crossmod.console.state import state_lines, state_screen

    told = -LINE_S
    for state, silent_s in _looks(run):
        last = once or state.state != "working"
        if last:
            console.out.print(state_screen(state, silent_s))
        elif time.monotonic() - told >= LINE_S:
            told = time.monotonic()
            for line in state_lines(state):
                console.out.print(line, markup=False, soft_wrap=True)
        if last:
            return


def _looks(run: Path) -> Iterator[tuple[RunState, float]]:
    """What the run tells, again and again until it has ended; and for how long it was silent."""
    from crossmod.progress.state import read_state

    told, heard = 0.0, time.monotonic()
    while True:
        state = read_state(run)
        if state.told != told:  # clocks of machines differ, so that only changes count
            told, heard = state.told, time.monotonic()
        silent = time.monotonic() - heard
        yield state, silent if silent > SILENT_S and state.state == "working" else 0.0
        if state.state != "working":
            return
        time.sleep(LOOK_S)
