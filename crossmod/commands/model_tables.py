"""The table of predictions in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from crossmod.model.calibration import LEVEL
from crossmod.model.confidence import Confidence
from crossmod.model.facts import ModelFacts
from crossmod.model.predict import Outlined
from crossmod.model.queue import Failed


def confidence_table(rows: Sequence[Confidence]) -> Table:
    """One row for each class of each scan."""
    table = Table(title="confidence")
    table.add_column("case", no_wrap=True)
    table.add_column("class")
    expecting = any(not math.isnan(row.expected_dice) for row in rows)
    expected = (f"expected Dice ({LEVEL:.0%})",) if expecting else ()
    for heading in ("agreement", "probability", "mm³", *expected):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("look at")
    previous = ""
    for row in rows:
        if previous and row.case != previous:
            table.add_section()
        case = "" if row.case == previous else row.case
        previous = row.case
        numbers = [_figure(row.agreement), _figure(row.probability), f"{row.volume_mm3:.0f}"]
        numbers += [_expected(row)] if expecting else []
        table.add_row(escape(case), escape(row.structure), *numbers, escape(row.flag))
    return table


def calibration_line(facts: ModelFacts) -> str:
    """Whether a model tells which Dice to expect."""
    if facts.calibration is None:
        return "not calibrated: predict will tell no expected Dice; --calibrate makes it do so"
    curves = facts.calibration.curves
    parts = [
        f"{name} on {curves[name].cases} outlines" if name in curves else f"{name} on too few"
        for name in facts.classes
    ]
    return f"calibrated on {facts.calibration.step}: {', '.join(parts)}"


def result_line(result: Outlined | Failed) -> str:
    """What came of one scan, for a log."""
    if isinstance(result, Failed):
        return f"warning: {result.scan.case}: {result.error}"
    rows = [_found(row) for row in result.confidence]
    return f"{result.scan.case}: {', '.join(rows)}"


def _found(row: Confidence) -> str:
    flag = f" ({row.flag})" if row.flag else ""
    expected = f", expected Dice {one}" if (one := _expected(row)) else ""
    return f"{row.structure} {row.volume_mm3:.0f} mm³{expected}{flag}"


def _expected(row: Confidence) -> str:
    if math.isnan(row.expected_dice):
        return ""
    return f"{row.expected_dice:.2f} ({row.lower_dice:.2f} to {row.upper_dice:.2f})"


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
