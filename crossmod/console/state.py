"""How far a run is: a screen that is drawn anew, or lines for a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
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
        return [f"silent for {duration(silent_s)}: {_silence(state)}"]
    whole = f"run: {state.done}/{state.steps} steps, {_left_of(state)}"
    lines = [visible(", ".join(_parts(step))) for step in state.working]
    return [f"{line}; {whole}" for line in lines] or [whole]


def _parts(step: StepState) -> list[str]:
    counts = _counts(step)
    loop = [step.loop] if step.loop and not counts else []  # a program, with its last line
    head = f"{step.number} {step.name} {counts}".strip()
    return [head, *loop, *_speed(step), *_values(step), *_time_left(step)]


def _speed(step: StepState) -> list[str]:
    return [f"{step.speed:.3g}/s"] if step.speed else []


def _time_left(step: StepState) -> list[str]:
    return [f"{duration(step.left_s)} left"] if step.left_s is not None else []


def _counts(step: StepState) -> str:
    if step.total:
        return f"{step.done}/{step.total}"
    return f"{step.done}" if step.done else ""


def _values(step: StepState) -> list[str]:
    shown = [f"{name} {value:z.4g}" for name, value in step.values.items()]
    return shown[:MOST_VALUES]


def _left_of(state: RunState) -> str:
    seconds = state.left_s or 0.0
    if not state.unknown:
        return f"{duration(seconds)} left"
    if seconds < 1:
        return "time left not known yet"
    return f"more than {duration(seconds)} left, {state.unknown} steps unknown"


def state_screen(state: RunState, silent_s: float = 0.0) -> RenderableType:
    """A screen: the run, whether it is silent, its steps at work, the last notes, its error.

    Args:
        state: how far the run is.
        silent_s: for how long it has said nothing; what it said of speed and time is then left out.
    """
    spent = duration(state.told - state.began)  # by one clock, that of the run
    now = f"silent for {duration(silent_s)}" if silent_s else f"{state.state}, {spent}"
    style = "yellow" if silent_s else ""
    parts: list[RenderableType] = [
        Text.assemble((visible(state.title), "bold"), "  ", (now, style))
    ]
    if silent_s:
        parts.append(_indented(Text(_silence(state), style)))
    parts.append(_whole(state, silent_s))
    parts += [_step(step, silent_s) for step in state.working]
    parts += [_indented(Text(visible(note), "dim")) for note in state.notes]
    if state.error:
        parts.append(Text.assemble(("error ", "red"), visible(state.error)))
    return Group(*parts)


def fitted_screen(console: Console, state: RunState, silent_s: float = 0.0) -> RenderableType:
    """A screen without those old notes for which a terminal has no room."""
    for first in range(len(state.notes)):
        screen = state_screen(state.model_copy(update={"notes": state.notes[first:]}), silent_s)
        if len(console.render_lines(screen)) <= console.height:
            return screen
    return state_screen(state.model_copy(update={"notes": ()}), silent_s)


def _indented(text: Text) -> RenderableType:
    return Padding(text, (0, 0, 0, 2), expand=False)


def _silence(state: RunState) -> str:
    return (
        f"no sign of life from process {state.process} on {visible(state.host)};"
        " rerun the recipe to resume if it was killed"
    )


def _whole(state: RunState, silent_s: float) -> RenderableType:
    left = _left_of(state) if state.state == "working" and not silent_s else ""
    return _row(state.done, state.steps, f"{state.done}/{state.steps} steps", left)


def _step(step: StepState, silent_s: float) -> RenderableType:
    now = visible(" ".join(filter(None, [step.loop, step.item])))
    title = Text.assemble(
        ("▸ ", "green"), visible(f"{step.number} {step.name}"), (f"  {now}", "dim")
    )
    about = "" if silent_s else "  ".join([*_speed(step), *_time_left(step)])
    parts: list[RenderableType] = [title, _row(step.done, step.total, _counts(step), about)]
    if step.values:
        parts.append(_indented(Text(visible(", ".join(_values(step))))))
    if len(step.curve) > 1:
        name = visible(next(iter(step.values)))
        parts.append(_indented(Text.assemble((sparkline(step.curve), "cyan"), (f" {name}", "dim"))))
    return Group(*parts)


def _row(done: int, total: int | None, count: str, about: str) -> RenderableType:
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=1)
    row.add_column(width=BAR_WIDTH)
    row.add_column(no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row("", ProgressBar(total=total, completed=done, width=BAR_WIDTH), count, about)
    return row
