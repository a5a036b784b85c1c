"""A comparison as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossmod.scores.comparison.trials import Comparison, Row
from crossmod.scores.sheets import Row as Line
from crossmod.scores.sheets import Sheet, best_rows
from crossmod.scores.statistics import difference_text, p_text
from crossmod.scores.table import DICE, Metric, reported


def row_sheet(comparison: Comparison, structure: str) -> Sheet:
    """Variants after each round, with the test against the first; the best of them are bold."""
    rows, sizes = comparison.of(structure), comparison.size_names
    gaps = [row.gap_closed for row in rows]
    told = [("gap closed", gaps)] if not all(map(math.isnan, gaps)) else []
    told += [(f"Dice, {size}", [_of_size(row, size) for row in rows]) for size in sizes]
    numbers = [*_metrics(rows), *((DICE, values) for _, values in told)]
    columns = [best_rows(metric, _own(rows, values)) for metric, values in numbers]
    lines = []
    for number, row in enumerate(rows):
        again = number > 0 and rows[number - 1].label == row.label
        best = frozenset(2 + column for column, of in enumerate(columns) if number in of)
        cells = ["" if again else row.label, "" if row.round is None else str(row.round)]
        cells += [_mean_sd(metric, row) for metric in reported()]
        cells += [DICE.text(values[number]) for _, values in told]
        lines.append(Line([*cells, *_test_cells(row)], best, starts=not again))
    return Sheet(
        f"{structure}, {comparison.split} scans; mean ± standard deviation over seeds",
        (
            *("variant", "round", *(metric.title for metric in reported())),
            *(title for title, _ in told),
            *("difference", "p"),
        ),
        lines,
        names=2,
        note="Bold: the best variant. Gap closed, with both references: from no-adaptation (0) to"
        " the oracle (1). Difference: of the mean Dice from the first variant after the"
        " same round, or from its last one. p: two-sided Wilcoxon test over cases, corrected"
        " (Holm)",
    )


def difference_sheet(comparison: Comparison, structure: str) -> Sheet:
    """Every test of a structure."""
    tests = [test for test in comparison.differences if test.structure == structure]
    lines = [
        Line(
            [
                *(test.first, str(test.rounds[0]), test.second, str(test.rounds[1])),
                *(str(test.paired.cases), difference_text(test.paired.mean_difference)),
                *(p_text(p, test.paired) for p in (test.t_holm, test.wilcoxon_holm)),
            ]
        )
        for test in tests
    ]
    return Sheet(
        f"{structure}: paired differences of Dice, {comparison.split} scans",
        ("first", "round", "second", "round", "cases", "difference", "p, paired t", "p, Wilcoxon"),
        lines,
        names=4,
        note="Difference: second minus first. p: two-sided, corrected (Holm)",
    )


def _metrics(rows: Sequence[Row]) -> list[tuple[Metric, list[float]]]:
    return [(metric, [row.spreads[metric.column][0] for row in rows]) for metric in reported()]


def _own(rows: Sequence[Row], values: Sequence[float]) -> list[float]:
    """Values without those of references, which do not compete."""
    return [
        math.nan if row.round is None else value for row, value in zip(rows, values, strict=True)
    ]


def _of_size(row: Row, size: str) -> float:
    return row.by_size.get(size, math.nan)


def _mean_sd(metric: Metric, row: Row) -> str:
    mean, sd = row.spreads[metric.column]
    return metric.text(mean) if math.isnan(sd) else f"{metric.text(mean)} ± {metric.text(sd)}"


def _test_cells(row: Row) -> tuple[str, str]:
    if row.versus is None:
        return "", ""
    test = row.versus
    return difference_text(test.paired.mean_difference), p_text(test.wilcoxon_holm, test.paired)
