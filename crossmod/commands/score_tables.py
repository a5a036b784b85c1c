"""How evaluations and rankings look in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from crossmod.console import number
from crossmod.scores.evaluation import RUNGS, Group, Spread
from crossmod.scores.metrics import OVERALL
from crossmod.scores.ranking import Duel, Ranking
from crossmod.scores.sizes import USUAL
from crossmod.scores.statistics import difference_text, p_text
from crossmod.scores.table import DICE, Metric, penalties, summarized


def note() -> str:
    """What the summary tables mean."""
    return (
        "sd: of the sample (n - 1); empty: predictions that lack the structure, counted as"
        f" {penalties(summarized())}; small: below {USUAL.small_below:g} mm³; large: above"
        f" {USUAL.large_above:g} mm³"
    )


def summary_table(groups: Sequence[Group], structure: str) -> Table:
    """Mean and sd of every metric of one structure, by center and, where there is one, by size."""
    table = Table(title=f"{escape(structure)}: mean ± sd")
    table.add_column("cases")
    table.add_column("n", justify="right")
    for metric in summarized():
        table.add_column(escape(metric.heading), justify="right")
    table.add_column("empty", justify="right")
    previous = ""
    for group in groups:
        if group.structure != structure:
            continue
        if previous and group.by != previous:
            table.add_section()
        previous = group.by
        spreads = [_mean_and_sd(metric, group.spreads[metric.column]) for metric in summarized()]
        counts = str(group.spreads[DICE.column].cases), str(group.empty_predictions)
        style = "bold" if group.name == OVERALL else ""
        table.add_row(escape(group.name), counts[0], *spreads, counts[1], style=style)
    return table


def percentile_table(groups: Sequence[Group], structure: str) -> Table:
    """Percentiles of all cases of one structure, counted from the worst."""
    overall = next(g for g in groups if g.structure == structure and g.by == "all")
    ranked = [metric for metric in summarized() if metric.better]
    title = f"{escape(structure)}: percentiles from the worst case"
    table = Table("", title=title)
    for metric in ranked:
        table.add_column(escape(metric.heading), justify="right")
    for i, rung in enumerate(RUNGS):
        table.add_row(rung, *(m.text(overall.spreads[m.column].rungs[i]) for m in ranked))
    return table


def _mean_and_sd(metric: Metric, spread: Spread) -> str:
    mean = metric.text(spread.mean)
    # Without a second space a narrow terminal breaks the cell before the sign.
    return mean if math.isnan(spread.sd) else f"{mean} ±{metric.text(spread.sd)}"


def ranking_table(ranking: Ranking) -> Table:
    """Place, score with its interval, and how often a team comes first."""
    table = Table(
        title=f"{escape(ranking.name)}: rank over {escape(', '.join(ranking.metrics))}",
        caption=f"mean Kendall tau of the samples: {number(ranking.stability)}",
    )
    table.add_column("", justify="right")
    table.add_column("team")
    for heading in ("score", "95 % interval", "first in"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in ranking.standings:
        interval = f"{row.low:.2f} - {row.high:.2f}"
        cells = (f"{row.score:.2f}", interval, f"{100 * row.first:.1f} %")
        table.add_row(str(row.place), escape(row.team), *cells)
    return table


def duel_table(metric: str, duels: Sequence[Duel]) -> Table:
    """Means of a metric and the adjusted p-values of the differences from the best one."""
    table = Table(
        title=f"{escape(metric)}: difference from {escape(duels[0].team)}",
        caption="p-values adjusted for the number of teams (Holm)",
    )
    table.add_column("team")
    for heading in ("mean", "difference", "p, paired t", "p, Wilcoxon"):
        table.add_column(heading, justify="right", no_wrap=True)
    best, *others = duels
    table.add_row(escape(best.team), number(best.mean))
    for row in others:
        p_values = (p_text(p, row.test) for p in (row.t_holm, row.wilcoxon_holm))
        cells = (number(row.mean), difference_text(row.test.mean_difference), *p_values)
        table.add_row(escape(row.team), *cells)
    return table
