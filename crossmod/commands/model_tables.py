"""The table of predictions in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from crossmod.model.confidence import Confidence
from crossmod.model.predict import Outlined
from crossmod.model.queue import Failed


def confidence_table(rows: Sequence[Confidence]) -> Table:
    """One row for each class of each scan."""
    table = Table(title="confidence")
    table.add_column("case", no_wrap=True)
    table.add_column("class")
    for heading in ("agreement", "probability", "mm³"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("look at")
    previous = ""
    for row in rows:
        if previous and row.case != previous:
            table.add_section()
        case = "" if row.case == previous else row.case
        previous = row.case
        numbers = (_figure(row.agreement), _figure(row.probability), f"{row.volume_mm3:.0f}")
        table.add_row(escape(case), escape(row.structure), *numbers, escape(row.flag))
    return table


def result_line(result: Outlined | Failed) -> str:
    """What came of one scan, for a log."""
    if isinstance(result, Failed):
        return f"warning: {result.scan.case}: {result.error}"
    rows = [_found(row) for row in result.confidence]
    return f"{result.scan.case}: {', '.join(rows)}"


def _found(row: Confidence) -> str:
    flag = f" ({row.flag})" if row.flag else ""
    return f"{row.structure} {row.volume_mm3:.0f} mm³{flag}"


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
