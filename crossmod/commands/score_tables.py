"""How evaluations and rankings look in a terminal."""

from __future__ import annotations

from typing import Literal

from rich.markup import escape
from rich.table import Table

from crossmod.scores.sheets import Sheet


def shown(sheet: Sheet, *, caption: bool = True) -> Table:
    """A table with names on the left, numbers on the right, and the best values in bold."""
    table = Table(
        title=escape(sheet.title),
        caption=escape(sheet.note) if caption and sheet.note else None,
    )
    for number, heading in enumerate(sheet.columns):
        side: Literal["left", "right"] = "left" if number < sheet.names else "right"
        table.add_column(escape(heading), justify=side)
    for row in sheet.rows:
        if row.starts:
            table.add_section()
        cells = [
            f"[bold]{escape(text)}[/bold]" if number in row.best else escape(text)
            for number, text in enumerate(row.cells)
        ]
        table.add_row(*cells)
    return table
