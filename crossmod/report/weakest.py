"""Where the method is weakest, in few rows however many cases and centers there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crossmod.report.content import MAX_CENTERS, ReportContent
from crossmod.scores.metrics import OVERALL, summarize
from crossmod.scores.table import DICE, reported

MANY = 20
"""Fewer cases than this are told apart in the chart."""

WORST = 10
"""Cases that are named."""


@dataclass(frozen=True)
class Ranking:
    """Rows of names and numbers, the lowest Dice first.

    Attributes:
        title: what the rows are.
        heads: of the columns before those of the metrics.
        rows: texts, in the order of the columns.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def rankings(content: ReportContent, split: str) -> list[Ranking]:
    """The weakest cases of the adapted stage where there are many, and all centers likewise."""
    stage = content.adapted
    if stage is None:
        return []
    found = [_cases(content, split, stage), _centers(content, split, stage)]
    return [one for one in found if one.rows]


def _cases(content: ReportContent, split: str, stage: str) -> Ranking:
    wanted = (split, stage, content.structure)
    scores = [s for s in content.scores if (s.split, s.stage, s.structure) == wanted]
    known = sorted((s for s in scores if not math.isnan(s.of(DICE))), key=lambda s: s.of(DICE))
    rows = [
        [item.case, item.center, *(metric.text(item.of(metric)) for metric in reported())]
        for item in known[: WORST if len(known) > MANY else 0]
    ]
    title = f"The {WORST} weakest of {len(known)} cases: {content.structure}, {stage}"
    return Ranking(title, ["case", "center"], rows)


def _centers(content: ReportContent, split: str, stage: str) -> Ranking:
    summaries = [
        item
        for item in summarize(content.scores, split, content.structure)
        if item.stage == stage and item.center != OVERALL and item.cases
    ]
    ranked = sorted(summaries, key=lambda item: item.spreads[DICE.column][0])
    rows = [
        [
            item.center,
            str(item.cases),
            *(metric.text(item.spreads[metric.column][0]) for metric in reported()),
        ]
        for item in (ranked if len(ranked) > MAX_CENTERS else ())
    ]
    title = f"All {len(ranked)} centers, mean over cases: {content.structure}, {stage}"
    return Ranking(title, ["center", "cases"], rows)
