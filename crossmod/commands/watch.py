"""`crossmod watch`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

LINE_S = 60.0


def watch(
    run: Annotated[Path, typer.Argument(help="A run folder, while its run works or afterwards.")],
    once: Annotated[bool, typer.Option("--once", help="Show the present state and leave.")] = False,
) -> None:
    """Show how far a run is; it only reads files, so any machine that sees the folder will do."""
    from crossmod import console
    from crossmod.progress.state import read_state

    if once or read_state(run).state != "working":
        _at_once(run)
    elif console.out.is_terminal:
        _on_screen(run)
    else:
        _as_lines(run)


def _at_once(run: Path) -> None:
    """One screen, as soon as it is known whether the run still works."""
    from crossmod import console
    from crossmod.console.state import state_screen
    from crossmod.progress.looks import looks

    look = next(look for look in looks(run) if look.is_sure)
    console.out.print(state_screen(look.state, look.silent_s))


def _on_screen(run: Path) -> None:
    from rich.live import Live

    from crossmod import console
    from crossmod.console.state import fitted_screen, state_screen
    from crossmod.progress.looks import looks

    with Live(console=console.out, refresh_per_second=2, vertical_overflow="ellipsis") as live:
        for look in looks(run):
            if look.state.state == "working":
                live.update(fitted_screen(console.out, look.state, look.silent_s))
            else:  # stays in the terminal, which can be scrolled
                live.update(state_screen(look.state))


def _as_lines(run: Path) -> None:
    """Lines once a minute, and when the run falls silent or speaks again; a screen at its end."""
    from crossmod import console
    from crossmod.console.state import state_lines, state_screen
    from crossmod.progress.looks import looks

    told, silent = -LINE_S, False
    for look in looks(run):
        if look.state.state != "working":
            console.out.print(state_screen(look.state))
        elif time.monotonic() - told >= LINE_S or silent != (look.silent_s > 0):
            told, silent = time.monotonic(), look.silent_s > 0
            for line in state_lines(look.state, look.silent_s):
                console.out.print(line, markup=False, soft_wrap=True)
