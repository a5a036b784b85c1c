"""A comparison as CSV."""

from __future__ import annotations

import math
from pathlib import Path

from crossmod.files.tables import write_csv
from crossmod.scores.comparison.trials import Comparison, Row
from crossmod.scores.table import DICE, Metric, reported

ROW_COLUMNS = ("class", "variant", "round", "seeds", "runs", "cases")
DICE_STATISTICS = ("cases_sd", "p5", "below_half", "gap_closed")
DIFFERENCE_COLUMNS = (
    *("class", "first", "first_round", "second", "second_round", "cases", "dice_difference"),
    *("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm"),
)


def write_rows(path: Path, comparison: Comparison) -> None:
    """Write one line for each row, Dice by size in the last columns."""
    sizes = comparison.size_names
    lines = [
        [
            *(row.structure, row.label, "" if row.round is None else row.round),
            *(row.seeds, row.runs, row.cases),
            *(value for metric in reported() for value in _numbers(row, metric)),
            *(row.by_size.get(size, math.nan) for size in sizes),
        ]
        for row in comparison.rows
    ]
    numbers = [metric.named(text) for metric in reported() for text in _statistics(metric)]
    write_csv(path, [*ROW_COLUMNS, *numbers, *(f"dice_{size}" for size in sizes)], lines)


def _statistics(metric: Metric) -> tuple[str, ...]:
    return ("mean", "seeds_sd", *DICE_STATISTICS) if metric is DICE else ("mean", "seeds_sd")


def _numbers(row: Row, metric: Metric) -> tuple[float, ...]:
    spread = row.spreads[metric.column]
    if metric is not DICE:
        return spread
    return (*spread, row.dice_cases_sd, row.dice_p5, row.dice_below_half, row.gap_closed)


def write_differences(path: Path, comparison: Comparison) -> None:
    """Write one line for each test."""
    lines = [
        [
            *(test.structure, test.first, test.rounds[0], test.second, test.rounds[1]),
            *(test.paired.cases, test.paired.mean_difference),
            *(test.paired.t_p, test.t_holm),
            *(test.paired.wilcoxon_p, test.wilcoxon_holm),
        ]
        for test in comparison.differences
    ]
    write_csv(path, DIFFERENCE_COLUMNS, lines)
