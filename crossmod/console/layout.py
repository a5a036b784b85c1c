"""Tables that keep every number and name whole, however narrow the terminal is.

A table that is too wide is shown in parts below each other, one for each class, each with the
columns that name its rows. Where that does not fit either, or where rows hold sentences, each row
becomes a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

NO_LIMIT = 10_000
"""The width of a log or a pipe: each row of a table stays on one line."""


def fitted(console: Console, table: Table, keys: int) -> Iterator[RenderableType]:
    """Yield what shows a table within the width of a console, without its title and caption.

    Args:
        console: where it will be printed.
        table: rows of text. Columns with `no_wrap` hold numbers and names; others may be broken
            between words. Headings of two lines begin with the class that they are about.
        keys: how many columns at the left name the rows.
    """
    one = Fitting(console, table, keys)
    names, others = list(range(keys)), list(range(keys, len(table.columns)))
    if one.fits(names + others):
        yield one.part(names + others)
    elif any(_class_in(column) for column in table.columns):
        for name, group in groupby(others, lambda i: _class_in(table.columns[i])):
            yield console.render_str(name, style="bold")
            yield from fitted(console, _about_one(table, names + list(group)), keys)
    elif any(table.columns[i].justify == "left" for i in others):
        yield from one.records()
    elif all(one.fits([*names, i]) for i in others):
        yield from (one.part(names + band) for band in one.bands(others))
    elif table.box is not None:
        yield from fitted(console, _without_lines(table), keys)
    else:
        yield from one.records()


def _without_lines(table: Table) -> Table:
    narrow = copy(table)
    narrow.box, narrow.pad_edge = None, False
    return narrow


def _class_in(column: Column) -> str:
    """The first line of a heading of two lines."""
    return str(column.header).rpartition("\n")[0]


def _about_one(table: Table, chosen: Sequence[int]) -> Table:
    """Some columns, whose headings leave out the class."""
    headings = {i: str(table.columns[i].header).rpartition("\n")[2] for i in chosen}
    part = copy(table)
    part.columns = [
        replace(table.columns[i], _index=place, header=headings[i])
        for place, i in enumerate(chosen)
    ]
    return part


@dataclass(frozen=True)
class Fitting:
    """A table on its way into a console; see `fitted`."""

    console: Console
    table: Table
    keys: int

    def fits(self, chosen: Sequence[int]) -> bool:
        """Whether columns fit side by side without breaking a word."""
        return self._spare(chosen) >= 0

    def part(self, chosen: Sequence[int]) -> Table:
        """Some columns as a table; the width that is left goes to those that would break lines."""
        spans = [self._span(self.table.columns[i]) for i in chosen]
        wanted = sum(most - least for least, most in spans)
        share = min(1.0, self._spare(chosen) / wanted) if wanted else 0.0
        return self._built(chosen, [least + int(share * (most - least)) for least, most in spans])

    def bands(self, columns: Sequence[int]) -> list[list[int]]:
        """Columns in as few parts as fit beside those that name the rows."""
        names = list(range(self.keys))
        found: list[list[int]] = []
        for i in columns:
            if found and self.fits([*names, *found[-1], i]):
                found[-1].append(i)
            else:
                found.append([i])
        return found

    def records(self) -> Iterator[RenderableType]:
        """Each row as a list of what its columns say."""
        cells = [[self._text(cell) for cell in column.cells] for column in self.table.columns]
        headings = [self._text(column.header) for column in self.table.columns]
        named = [Text("")] * self.keys
        for row in zip(*cells, strict=True):
            named = [new if new.plain else old for new, old in zip(row, named, strict=False)]
            heading = Text("  ").join(one for one in named if one.plain)
            heading.stylize("bold")
            yield heading
            listed = Table.grid(padding=(0, 2, 0, 0))
            listed.add_column()
            listed.add_column(overflow="fold")
            for name, cell in zip(headings[self.keys :], row[self.keys :], strict=True):
                if cell.plain:
                    listed.add_row(name, cell)
            yield Padding(listed, (0, 0, 0, 2))

    def _spare(self, chosen: Sequence[int]) -> int:
        """The width that columns leave where nothing in them is broken."""
        least = self._built(chosen, [self._span(self.table.columns[i])[0] for i in chosen])
        unlimited = self.console.options.update(width=NO_LIMIT)
        return self.console.width - self.console.measure(least, options=unlimited).maximum

    def _built(self, chosen: Sequence[int], widths: Sequence[int]) -> Table:
        built = copy(self.table)
        built.title = built.caption = None
        built.columns = [
            replace(
                self.table.columns[i], _index=place, width=width, no_wrap=False, overflow="fold"
            )
            for place, (i, width) in enumerate(zip(chosen, widths, strict=True))
        ]
        return built

    def _span(self, column: Column) -> tuple[int, int]:
        """The least width that breaks no word, name or number, and that which breaks no line."""
        heading = self._text(column.header).plain
        cells = [line for cell in column.cells for line in self._text(cell).plain.split("\n")]
        whole = cells if column.no_wrap else [word for line in cells for word in line.split()]
        least = max((cell_len(one) for one in [*whole, *heading.split()]), default=0)
        most = max((cell_len(one) for one in [*cells, *heading.split("\n")]), default=0)
        return least, max(least, most)

    def _text(self, cell: RenderableType) -> Text:
        return cell if isinstance(cell, Text) else self.console.render_str(str(cell))
