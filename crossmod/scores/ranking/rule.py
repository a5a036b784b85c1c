"""The rule of CrossMoDA 2022, bootstrapped, and tests against the best team.

For each case and each metric, the rank of a team is 1 plus the number of teams that are strictly
better. The mean over the metrics is its cumulative rank in the case; the mean of that over the
cases is its score. The lowest score wins. (``ranking.py`` of CrossMoDA2022-Evaluation-code.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.scores.ranking.table import FloatTable, ScoreTable, higher_is_better, structure_of
from crossmod.scores.statistics import Paired, holm, paired

ALL = "all"
"""The ranking over the metrics of all structures."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the samples that bound the interval of a score."""


@dataclass(frozen=True)
class Standing:
    """The place of one team.

    Attributes:
        team: its name.
        place: 1 plus the number of teams with a lower score.
        score: mean cumulative rank, between 1 and the number of teams.
        low: lower end of the score's 95 % interval over the samples.
        high: upper end.
        first: share of the samples in which no team has a lower score, in [0, 1].
    """

    team: str
    place: int
    score: float
    low: float
    high: float
    first: float


@dataclass(frozen=True)
class Ranking:
    """The order of the teams by some metrics.

    Attributes:
        name: `ALL` or a structure.
        metrics: the columns it is made from.
        standings: best first; by name where scores are equal.
        stability: mean over the samples of Kendall's tau-b between the scores in a sample and
            those over all cases, in [-1, 1]; NaN where it is never defined.
    """

    name: str
    metrics: tuple[str, ...]
    standings: tuple[Standing, ...]
    stability: float


@dataclass(frozen=True)
class Duel:
    """One team against the one with the best mean of a metric.

    Attributes:
        team: its name.
        mean: its mean of the metric.
        test: differences from the best team, case by case; p-values as they are.
        t_holm: p-value of the paired t-test, adjusted for the number of teams.
        wilcoxon_holm: p-value of Wilcoxon's signed-rank test, adjusted likewise.
    """

    team: str
    mean: float
    test: Paired
    t_holm: float
    wilcoxon_holm: float


def rankings(table: ScoreTable, *, samples: int = 1000, seed: int = 0) -> list[Ranking]:
    """The ranking over all metrics, then one for each structure if there are several.

    Args:
        table: scores of two or more teams.
        samples: how often as many cases as there are get drawn with replacement.
        seed: of these draws, which all rankings share.
    """
    from scipy import stats

    higher = np.array([higher_is_better(name) for name in table.metrics])[:, None, None]
    ranks = stats.rankdata(np.where(higher, -table.values, table.values), method="min", axis=2)
    count = len(table.cases)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=samples)
    names = [ALL, *(table.structures if len(table.structures) > 1 else ())]
    return [_ranking(name, table, ranks, draws) for name in names]


def duels(table: ScoreTable, metric: str) -> list[Duel]:
    """Test every team against the one with the best mean of a metric; best mean first.

    The first entry is the best team itself, without p-values. The p-values of the others are
    adjusted with Holm's method.

    Raises:
        DataError: the table lacks this metric.
    """
    values = table.of(metric)
    means = values.mean(axis=0)
    order = np.argsort(-means if higher_is_better(metric) else means, kind="stable")
    best = values[:, order[0]].tolist()
    tests = [paired(values[:, team].tolist(), best) for team in order]
    t_holm = holm([test.t_p for test in tests])
    wilcoxon_holm = holm([test.wilcoxon_p for test in tests])
    return [
        Duel(table.teams[team], float(means[team]), test, t_p, wilcoxon_p)
        for team, test, t_p, wilcoxon_p in zip(order, tests, t_holm, wilcoxon_holm, strict=True)
    ]


def _ranking(name: str, table: ScoreTable, ranks: FloatTable, draws: NDArray[np.int64]) -> Ranking:
    """A ranking from ranks ``(metrics, cases, teams)`` and counts ``(samples, cases)``."""
    metrics = tuple(m for m in table.metrics if name in (ALL, structure_of(m)))
    # Sums of whole ranks are exact, so that equal teams stay equal; division comes last.
    sums = ranks[[m in metrics for m in table.metrics]].sum(axis=0)
    divisor = len(metrics) * len(table.cases)
    scores, sampled = sums.sum(axis=0) / divisor, draws @ sums / divisor
    low, high = np.percentile(sampled, INTERVAL, axis=0)
    first = (sampled == sampled.min(axis=1, keepdims=True)).mean(axis=0)
    standings = tuple(
        Standing(
            table.teams[team],
            1 + int(np.count_nonzero(scores < scores[team])),
            *(float(row[team]) for row in (scores, low, high, first)),
        )
        for team in np.argsort(scores, kind="stable")
    )
    return Ranking(name, metrics, standings, _mean_tau(scores, sampled))


def _mean_tau(scores: FloatTable, sampled: FloatTable) -> float:
    """Mean Kendall tau-b between ``(teams,)`` and each row of ``(samples, teams)``.

    The formula of `scipy.stats.kendalltau`, which takes one pair of rankings at a time.
    """
    first, second = np.triu_indices(len(scores), k=1)
    order = np.sign(scores[first] - scores[second])
    orders = np.sign(sampled[:, first] - sampled[:, second])
    untied = np.count_nonzero(order) * np.count_nonzero(orders, axis=1)
    taus = (orders @ order)[untied > 0] / np.sqrt(untied[untied > 0])
    return float(taus.mean()) if len(taus) else math.nan
