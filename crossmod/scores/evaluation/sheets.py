"""Means and percentiles of an evaluation as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossmod.scores.evaluation.summary import RUNGS, Group, Spread
from crossmod.scores.sheets import Row, Sheet
from crossmod.scores.sizes import USUAL
from crossmod.scores.table import DICE, Metric, penalties, summarized


def note() -> str:
    """The legend of the summary tables."""
    return (
        "sd: of the sample (n - 1); empty: predictions without the structure, counted as"
        f" {penalties(summarized())}; small: below {USUAL.small_below:g} mm³; large: above"
        f" {USUAL.large_above:g} mm³"
    )


def summary_sheet(groups: Sequence[Group], structure: str) -> Sheet:
    """Mean and sd of every metric of one structure, by center and, of the first class, by size."""
    own = [group for group in groups if group.structure == structure]
    rows = [
        Row(_summary_cells(group), starts=before is not None and before.by != group.by)
        for before, group in zip([None, *own], own, strict=False)
    ]
    headings = [metric.heading for metric in summarized()]
    return Sheet(f"{structure}: mean ± sd", ["cases", "n", *headings, "empty"], rows, note=note())


def percentile_sheet(groups: Sequence[Group], structure: str) -> Sheet:
    """Percentiles of all cases of one structure, counted from the worst."""
    overall = next(g for g in groups if g.structure == structure and g.by == "all")
    ranked = [metric for metric in summarized() if metric.better]
    rows = [
        Row([rung, *(m.text(overall.spreads[m.column].rungs[i]) for m in ranked)])
        for i, rung in enumerate(RUNGS)
    ]
    title = f"{structure}: percentiles from the worst case"
    return Sheet(title, ["", *(metric.heading for metric in ranked)], rows)


def _summary_cells(group: Group) -> list[str]:
    spreads = [_mean_and_sd(metric, group.spreads[metric.column]) for metric in summarized()]
    counts = str(group.spreads[DICE.column].cases), str(group.empty_predictions)
    return [group.name, counts[0], *spreads, counts[1]]


def _mean_and_sd(metric: Metric, spread: Spread) -> str:
    mean = metric.text(spread.mean)
    # Without a second space a narrow terminal breaks the cell before the sign.
    return mean if math.isnan(spread.sd) else f"{mean} ±{metric.text(spread.sd)}"
