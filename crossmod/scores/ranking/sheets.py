"""Rankings and tests between teams as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossmod.scores.ranking.rule import Duel, Ranking
from crossmod.scores.sheets import Row, Sheet
from crossmod.scores.statistics import difference_text, p_text


def ranking_sheet(ranking: Ranking) -> Sheet:
    """Place, score with its interval, and how often a team comes first."""
    stability = "n/a" if math.isnan(ranking.stability) else f"{ranking.stability:.3f}"
    rows = [
        Row(
            [
                *(str(row.place), row.team, f"{row.score:.2f}", f"{row.low:.2f} - {row.high:.2f}"),
                f"{100 * row.first:.1f} %",
            ],
            frozenset({1, 2} if row.place == 1 else ()),
        )
        for row in ranking.standings
    ]
    return Sheet(
        f"{ranking.name}: rank over {', '.join(ranking.metrics)}",
        ("place", "team", "score", "95 % interval", "first in"),
        rows,
        names=2,
        note=f"mean Kendall tau of the samples: {stability}",
    )


def duel_sheet(metric: str, duels: Sequence[Duel]) -> Sheet:
    """Means of a metric and the adjusted p-values of the differences from the best one."""
    best, *others = duels
    rows = [Row([best.team, f"{best.mean:.3f}", "", "", ""], frozenset({0, 1}))]
    for one in others:
        p_values = (p_text(p, one.test) for p in (one.t_holm, one.wilcoxon_holm))
        cells = f"{one.mean:.3f}", difference_text(one.test.mean_difference), *p_values
        rows.append(Row([one.team, *cells]))
    return Sheet(
        f"{metric}: difference from {best.team}",
        ("team", "mean", "difference", "p, paired t", "p, Wilcoxon"),
        rows,
        note="p-values adjusted for the number of teams (Holm)",
    )
