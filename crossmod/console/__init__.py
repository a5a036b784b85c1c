"""Progress, tables and messages in a terminal. Only this module and the commands print."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from crossmod.console.layout import NO_LIMIT, fitted
from crossmod.scores.final import SPLITS
from crossmod.scores.metrics import OVERALL, summarize
from crossmod.scores.statistics import difference_text, p_text
from crossmod.scores.table import reported

if TYPE_CHECKING:  # an error is shown without these imports
    from crossmod.errors import CrossmodError
    from crossmod.progress.state import RunState
    from crossmod.run.run import Run
    from crossmod.run.steps import Step
    from crossmod.run.task import Advance
    from crossmod.scores.comparison import Comparison
    from crossmod.scores.metrics import Score

ItemT = TypeVar("ItemT")

ROOM_FOR_BARS = 75
"""Columns of a terminal below which bars leave their names and numbers no room."""


class Terminal(Console):
    """Prints text literally: recipes and file names cannot send commands to the terminal.

    Output that does not go to a terminal has lines of any length.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)
        if not self.is_terminal:
            self.width = NO_LIMIT

    def render_str(self, text: str, **options: Any) -> Text:
        """Render markup, with control characters spelled out."""
        return super().render_str(visible(text), **options)


def visible(text: str) -> str:
    """Spell out control characters, and those that change the direction of text."""
    if text.isprintable():
        return text
    return "".join(
        ascii(c)[1:-1] if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf") else c
        for c in text
    )


out = Terminal()
err = Terminal(stderr=True)


def show(table: Table, keys: int = 1) -> None:
    """Print a table so that no number and no name in it is cut.

    Args:
        table: rows of text.
        keys: how many columns at the left name the rows.
    """
    if table.title:
        out.print(table.title, style="table.title", soft_wrap=True)
    for part in fitted(out, table, keys):
        out.print(part)
    if table.caption:
        out.print(table.caption, style="table.caption", soft_wrap=True)


def pausing() -> AbstractContextManager[None]:
    """While this block runs, Ctrl-Z pauses all that the command has started, too."""
    from crossmod.run.signals import pause_together

    return pause_together(lambda: out.show_cursor(True))


class RunConsole:
    """Shows a run: a progress bar for each active step, a line for each finished one."""

    def __init__(self) -> None:
        self.progress = _progress()
        self.stored = 0
        self.bars: dict[str, TaskID] = {}
        self.names: dict[str, str] = {}
        self.last: dict[str, Advance] = {}

    def __enter__(self) -> RunConsole:
        self.progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.progress.stop()
        if self.stored:
            out.print(f"[dim]{self.stored} steps were already in the store[/dim]")

    def found(self, run: Run, step: Step) -> None:
        """Count a step that was found in the store."""
        del run, step
        self.stored += 1

    def started(self, run: Run, step: Step) -> None:
        """Show a bar for a step."""
        name = f"{run.number_of(step)} {run.label} {step.name}".replace("  ", " ")
        self.names[step.key] = escape(name)
        self.bars[step.key] = self.progress.add_task(self.names[step.key], total=None)

    def advanced(self, advance: Advance) -> None:
        """Move the bar of a step."""
        from crossmod.progress.working import begins_loop

        if advance.values:  # it noted numbers, and got no further
            return
        description = f"{self.names[advance.key]} {escape(advance.label)}".strip()
        bar = self.bars[advance.key]
        if begins_loop(advance, self.last.get(advance.key)):  # its speed is its own
            self.progress.reset(bar, completed=advance.done, total=advance.total)
        self.last[advance.key] = advance
        self.progress.update(
            bar, description=description, completed=advance.done, total=advance.total
        )

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """Print a line for a finished step."""
        self.left(step)
        name = f"{run.label} {step.name}".strip()
        number = run.number_of(step)
        out.print(f"[green]✓[/green] {number:>7}  {escape(name):<40} {seconds:>7.1f} s")

    def left(self, step: Step) -> None:
        """Remove the bar of a step."""
        self.progress.remove_task(self.bars.pop(step.key))
        self.last.pop(step.key, None)

    def note(self, text: str) -> None:
        """Print a remark."""
        # One line each in a log, so that paths can be searched and copied.
        out.print(f"[dim]{escape(text)}[/dim]", soft_wrap=not out.is_terminal)


def tell_without_terminal(state: RunState) -> None:
    """Print how far a run is where no progress bar shows it."""
    from crossmod.console.state import state_lines

    if not out.is_terminal:
        for line in state_lines(state):
            out.print(line, style="dim", markup=False, soft_wrap=True)


class Bar:
    """The progress bar of a command's loop; hidden until the loop begins."""

    def __init__(self, name: str) -> None:
        self.progress, self.name = _progress(), escape(name)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.progress.live.is_started:
            self.progress.stop()

    def __call__(
        self, items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        """Yield the items and advance the bar."""
        if total is None and isinstance(items, Sequence):
            total = len(items)
        description = f"{self.name} {escape(label)}".strip()
        self.progress.start()
        task = self.progress.add_task(description, total=total)
        try:
            for item in items:
                yield item
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)


class TimeLeft(TimeRemainingColumn):
    """The time that a task still takes, once that is known."""

    def render(self, task: Task) -> Text:
        """The time, named."""
        time = super().render(task)
        return time.append(" left") if time.plain.strip() else time


def _progress() -> Progress:
    room = out.width >= ROOM_FOR_BARS
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", table_column=Column(overflow="fold")),
        *([BarColumn(bar_width=24)] if room else []),
        MofNCompleteColumn(),
        *([TimeElapsedColumn()] if room else []),
        TimeLeft(),
    ]
    return Progress(*columns, console=out, transient=True)


def remark(text: str) -> None:
    """Print a line that needs attention."""
    out.print(text, style="yellow", markup=False, soft_wrap=True)


def summary_tables(scores: Sequence[Score], structures: Iterable[str]) -> list[Table]:
    """One table for each split: stages by centers, the reported metrics of each class."""
    splits = [split for split in SPLITS if any(s.split == split for s in scores)]
    return [_summary_table(scores, split, list(structures)) for split in splits]


def _summary_table(scores: Sequence[Score], split: str, structures: list[str]) -> Table:
    rows: dict[tuple[str, str], list[str]] = {}
    for structure in structures:
        for row in summarize(scores, split, structure):
            cells = rows.setdefault((row.stage, row.center), [row.stage, row.center])
            first, *others = (row.spreads[metric.column] for metric in reported())
            cells += [" ± ".join(map(number, first)), *(number(mean) for mean, _ in others)]
    cases = len({score.case for score in scores if score.split == split})
    table = Table(title=f"{split} split, {cases} scans of the target modality")
    table.add_column("segmenter after", no_wrap=True)
    table.add_column("center", no_wrap=True)
    headings = [escape(metric.heading) for metric in reported()]
    headings[0] += " ± sd"
    for structure in structures:
        for heading in headings:
            table.add_column(f"{escape(structure)}\n{heading}", justify="right", no_wrap=True)
    previous = ""
    for (stage, center), cells in rows.items():
        if previous and stage != previous:
            table.add_section()
        cells[0] = "" if stage == previous else stage
        previous = stage
        table.add_row(*map(escape, cells), style="bold" if center == OVERALL else "")
    return table


def number(value: float) -> str:
    """A number in a table; n/a where it could not be measured."""
    return "n/a" if math.isnan(value) else f"{value:z.3f}"


def plugin_table(rows: Iterable[Sequence[str]]) -> Table:
    """Name, kind, distribution, version and summary of each plugin and engine."""
    table = Table("name", "kind", "distribution", "version", "what it does", box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def options_table(rows: Iterable[Sequence[str]]) -> Table:
    """Key, type, default and meaning of each option."""
    table = Table("key", "type", "default", "meaning", box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def comparison_tables(comparison: Comparison) -> list[Table]:
    """One table for each class: variants and rounds, spread over seeds, tests."""
    return [_comparison_table(comparison, name) for name in comparison.structures]


def _comparison_table(comparison: Comparison, structure: str) -> Table:
    title = (
        f"{escape(structure)}, {comparison.split} split; mean ± sd over seeds; p: Wilcoxon, Holm"
    )
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    table.add_column("variant", no_wrap=True)
    headings = [metric.heading for metric in reported()]
    for heading in ("round", "n", *headings, *comparison.size_names, "vs first", "p"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    before = ""
    for row in comparison.of(structure):
        first, *others = (row.spreads[metric.column] for metric in reported())
        sizes = [number(row.by_size.get(name, math.nan)) for name in comparison.size_names]
        test = row.versus
        table.add_row(
            "" if row.label == before else escape(row.label),
            "" if row.round is None else str(row.round),
            str(row.seeds) if row.seeds == row.runs else f"{row.seeds}/{row.runs}",
            _spread(*first),
            *(number(mean) for mean, _ in others),
            *sizes,
            difference_text(test.paired.mean_difference) if test else "",
            p_text(test.wilcoxon_holm, test.paired) if test else "",
            style="dim" if row.round is None else "",
        )
        before = row.label
    return table


def _spread(mean: float, spread: float) -> str:
    return number(mean) if math.isnan(spread) else f"{number(mean)}±{number(spread)}"


def show_error(error: CrossmodError) -> None:
    """Print an error: where, what, what was allowed, what to do."""
    err.print(f"[red]error[/red] {escape(str(error))}", soft_wrap=True)
