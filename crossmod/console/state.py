"""How far a run is: a screen that is drawn anew, or lines for a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossmod.console import visible

if TYPE_CHECKING:
    from crossmod.progress.state import RunState, StepState

BLOCKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 24
MOST_VALUES = 6
"""Numbers of a step that are shown."""


def duration(seconds: float) -> str:
    """A length of time in two units at most.

    Example:
        >>> [duration(one) for one in (4.2, 89, 3700, 200000)]
        ['4 s', '1 min 29 s', '1 h 01 min', '2 d 07 h']
        >>> duration(-10)  # of a clock that was set back
        '0 s'
    """
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest:02d} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h" if days else f"{hours} h {minutes:02d} min"


def sparkline(values: Iterable[float]) -> str:
    """Numbers as a line of blocks, the lowest at the bottom.

    Example:
        >>> sparkline([3, 2, 1, 1])
        '█▄▁▁'
    """
    found = [value for value in values if value == value and abs(value) != float("inf")]
    low, high = min(found, default=0.0), max(found, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[int((value - low) * scale)] for value in found)


def state_lines(state: RunState, silent_s: float = 0.0) -> list[str]:
    """A line for each step at work, and the time left of the whole run at its end.

    Args:
        state: how far the run is.
        silent_s: for how long it has said nothing; if not 0.0, one line says that alone.
    """
    if silent_s:
        return [_silence(state, silent_s)]
    whole = f"run: {state.done}/{state.steps} steps, {_left_of(state)}"
    lines = [visible(", ".join(_parts(step))) for step in state.working]
    return [f"{line}; {whole}" for line in lines] or [whole]


def _parts(step: StepState) -> list[str]:
    counts = f" {_counts(step)}" if step.done or step.total else ""
    parts = [f"{step.number} {step.name}{counts}"]
    parts += [f"{step.speed:.3g}/s"] if step.speed else []
    parts += _values(step)
    return parts + ([f"{duration(step.left_s)} left"] if step.left_s is not None else [])


def _counts(step: StepState) -> str:
    return f"{step.done}/{step.total}" if step.total else f"{step.done}"


def _values(step: StepState) -> list[str]:
    shown = [f"{name} {value:.4g}" for name, value in step.values.items()]
    return shown[:MOST_VALUES]


def _left_of(state: RunState) -> str:
    seconds = state.left_s or 0.0
    if not state.unknown:
        return f"{duration(seconds)} left"
    if seconds < 1:
        return "time left not known yet"
    return f"more than {duration(seconds)} left, {state.unknown} steps unknown"


def state_screen(state: RunState, silent_s: float = 0.0) -> RenderableType:
    """A screen: the run, its steps at work with their newest numbers, the last notes, its error.

    Args:
        state: how far the run is.
        silent_s: for how long it has said nothing.
    """
    spent = duration(state.told - state.began)  # by one clock, that of the run
    head = Text.assemble((visible(state.title), "bold"), f"  {state.state}, {spent}")
    parts: list[RenderableType] = [head, _whole(state)]
    parts += [_step(step) for step in state.working]
    parts += [Text(visible(f"  {note}"), style="dim") for note in state.notes]
    if state.error:
        parts.append(Text.assemble(("error ", "red"), visible(state.error)))
    if silent_s:
        parts.append(Text(_silence(state, silent_s), style="yellow"))
    return Group(*parts)


def _silence(state: RunState, silent_s: float) -> str:
    return (
        f"no sign of life from process {state.process} on {visible(state.host)} for"
        f" {duration(silent_s)}; rerun the recipe to resume if it was killed"
    )


def _whole(state: RunState) -> RenderableType:
    left = _left_of(state) if state.state == "working" else ""
    return _row(state.done, state.steps, f"{state.done}/{state.steps} steps", left)


def _step(step: StepState) -> RenderableType:
    now = visible(" ".join(filter(None, [step.loop, step.item])))
    title = Text.assemble(
        ("▸ ", "green"), visible(f"{step.number} {step.name}"), (f"  {now}", "dim")
    )
    speed = f"{step.speed:.3g}/s" if step.speed else ""
    left = f"{duration(step.left_s)} left" if step.left_s is not None else ""
    about = "  ".join(filter(None, [speed, left]))
    parts: list[RenderableType] = [title, _row(step.done, step.total, _counts(step), about)]
    if step.values:
        parts.append(Text(visible("  " + ", ".join(_values(step)))))
    if len(step.curve) > 1:
        name = visible(next(iter(step.values)))
        parts.append(Text.assemble("  ", (sparkline(step.curve), "cyan"), (f" {name}", "dim")))
    return Group(*parts)


def _row(done: int, total: int | None, count: str, about: str) -> RenderableType:
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=1)
    row.add_column(width=BAR_WIDTH)
    row.add_column(no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row("", ProgressBar(total=total, completed=done, width=BAR_WIDTH), count, about)
    return row
