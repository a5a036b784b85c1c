"""Means with their spread, tests on paired samples, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALMOST_EQUAL = 1e-12
"""Differences that vary by less than this share of the largest are one number plus rounding."""


@dataclass(frozen=True)
class Paired:
    """How two samples of the same cases differ.

    Attributes:
        cases: pairs in which both values are known.
        mean_difference: mean of first minus second; NaN without cases.
        t_p: two-sided p-value of the paired t-test; NaN where it is not defined: fewer than two
            cases, or all differences equal.
        wilcoxon_p: two-sided p-value of Wilcoxon's signed-rank test, cases without a difference
            left out; NaN with fewer than two cases, or where no case has a difference.
    """

    cases: int
    mean_difference: float
    t_p: float
    wilcoxon_p: float

    @property
    def why_not(self) -> str:
        """Why a p-value is not defined; empty where both are."""
        if self.cases < 2:
            return "one case" if self.cases else "no cases"
        if math.isnan(self.wilcoxon_p):
            return "no differences"
        return "equal differences" if math.isnan(self.t_p) else ""


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two samples; position n of both is the same case, NaN is an unknown value.

    Both tests are SciPy's. It computes Wilcoxon's p-value exactly for up to 50 cases, or up to 13
    where differences are zero or tied, and approximates it for more.

    Raises:
        ValueError: the samples differ in length.

    >>> paired([0.8, 0.9, 0.7, 0.6], [0.7, 0.7, 0.7, math.nan]).cases
    3
    >>> paired([0.8], [0.5]).why_not
    'one case'
    """
    difference = np.array([a - b for a, b in zip(first, second, strict=True)], dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return Paired(0, math.nan, math.nan, math.nan)
    mean, largest = float(difference.mean()), float(np.abs(difference).max())
    if len(difference) < 2 or largest == 0:
        return Paired(len(difference), mean, math.nan, math.nan)
    from scipy import stats

    constant = np.ptp(difference) <= ALMOST_EQUAL * largest
    t_p = math.nan if constant else float(stats.ttest_1samp(difference, 0.0).pvalue)
    return Paired(len(difference), mean, t_p, float(stats.wilcoxon(difference).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests, step-down (Holm, Scand. J. Statist. 1979).

    Returns:
        In the given order: the smallest of m values times m, the next times m - 1, and so on, none
        below the one before it and none above 1. NaN stays NaN and does not count as a test.

    >>> holm([0.25, 0.125, math.nan, 0.75])
    [0.5, 0.375, nan, 0.75]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")  # NaN comes last
    order = order[: np.count_nonzero(~np.isnan(values))]
    raised = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean (NaN of nothing) and sample standard deviation (n - 1; NaN below two values).

    >>> mean_and_sd([1.0, 3.0, 5.0])
    (3.0, 2.0)
    >>> mean_and_sd([3.0])
    (3.0, nan)
    """
    mean = float(np.mean(values)) if len(values) else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def difference_text(value: float) -> str:
    """A difference as tables show it.

    >>> difference_text(-0.0421)
    '-0.042'
    >>> difference_text(-0.0)
    '+0.000'
    """
    return "n/a" if math.isnan(value) else f"{value:+z.3f}"


def p_text(value: float, test: Paired) -> str:
    """A p-value as tables show it, or why the test is undefined.

    >>> p_text(0.0004, paired([1.0, 2.0], [0.0, 0.0]))
    '< 0.001'
    >>> p_text(math.nan, paired([], []))
    'n/a (no cases)'
    """
    if math.isnan(value):
        return f"n/a ({test.why_not})"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
