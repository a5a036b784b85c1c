"""What Dice to expect of a structure, from how far its outlines agree.

The curve is learned from cases whose Dice is known: an isotonic regression of Dice on agreement
(Barlow et al., 1972), with an interval from the residuals of left-out cases, divided by their usual
size at that agreement: the jackknife of conformal prediction (Lei et al., JASA 2018, section 5.2,
on locally weighted residuals; Barber et al., Annals of Statistics 2021, on left-out ones).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from crossmod.options import Name, Options

LEVEL = 0.8
"""The share of further cases of the same kind that the interval should hold."""

FEWEST = 10
"""Patients that a curve needs: with 8 or fewer the interval would be 0 to 1."""

KNOTS = 21
"""Points of a curve, at evenly spaced quantiles: not one for each case."""

SMALLEST_SPREAD = 0.01
"""Usual size of a residual where the left-out cases lie on the curve."""

ROUNDING = 1e-9
"""Lets 10 * 0.1 count as 1."""

FloatArray: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[float], float]
Fit: TypeAlias = Callable[[FloatArray, FloatArray], Function]


class Expected(NamedTuple):
    """The Dice to expect, and the interval that holds it in `LEVEL` of all cases."""

    dice: float
    lower: float
    upper: float


UNKNOWN = Expected(math.nan, math.nan, math.nan)


class Curve(Options):
    """From the agreement on one structure to its Dice; linear between its points."""

    cases: int
    agreement: tuple[float, ...] = Field(min_length=1)
    dice: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        columns = (self.agreement, self.dice, self.lower, self.upper)
        if len({len(column) for column in columns}) > 1:
            raise ValueError("agreement, dice, lower and upper have different lengths")
        if not all(0 <= value <= 1 for column in columns for value in column):
            raise ValueError("agreement and Dice are within 0 and 1")
        if list(self.agreement) != sorted(set(self.agreement)):
            raise ValueError("agreement does not rise")
        return self

    def at(self, agreement: float) -> Expected:
        """What to expect of an outline.

        Below all agreements that were seen, the Dice falls to 0 with the agreement, and the
        interval reaches down to 0.
        """
        if math.isnan(agreement):
            return UNKNOWN
        dice, lower, upper = (
            float(np.interp(agreement, self.agreement, column))
            for column in (self.dice, self.lower, self.upper)
        )
        lowest = self.agreement[0]
        if agreement < lowest:
            dice, lower = dice * agreement / lowest, 0.0
        return Expected(dice, lower, upper)


class Calibration(Options):
    """The curves of a model.

    Attributes:
        step: whose cases gave them.
        level: share of cases that the intervals should hold.
        curves: class -> its curve; a class that too few cases show has none.
    """

    step: str
    level: float = Field(default=LEVEL, gt=0, lt=1)
    curves: dict[Name, Curve]


def fit_curve(
    agreement: Sequence[float], dice: Sequence[float], patients: Sequence[str]
) -> Curve | None:
    """Learn a curve from cases whose Dice is known; None from fewer than `FEWEST` patients.

    All cases of a patient are left out together: they are more alike than those of another one.

    Example:
        >>> agreement = [number / 10 for number in range(11)]
        >>> fit_curve(agreement, agreement, "abcdefghijk").at(0.5).dice
        0.5
    """
    _, whose = np.unique([*patients], return_inverse=True)
    if whose.max(initial=-1) + 1 < FEWEST:
        return None
    x, y = np.asarray(agreement, np.float64), np.asarray(dice, np.float64)
    residuals = y - _left_out(x, y, whose, _rising)
    spreads = _left_out(x, np.abs(residuals), whose, _falling)
    below, above = _tails(residuals / spreads)
    expected, spread = _rising(x, y), _falling(x, np.abs(residuals))
    knots = np.unique(np.quantile(x, np.linspace(0, 1, KNOTS)).round(4))
    found = [(expected(knot), spread(knot)) for knot in knots]
    return Curve(
        cases=len(x),
        agreement=tuple(knots.tolist()),
        dice=_rounded(value for value, _ in found),
        lower=_rounded(value + below * size for value, size in found),
        upper=_rounded(value + above * size for value, size in found),
    )


def _rising(x: FloatArray, y: FloatArray) -> Function:
    """The isotonic regression of y on x, linear between the values of x."""
    from scipy.optimize import isotonic_regression  # slow to import, and predict does not need it

    places, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(at, weights=y) / counts
    fitted = isotonic_regression(means, weights=counts).x
    return lambda value: float(np.interp(value, places, fitted))


def _falling(x: FloatArray, sizes: FloatArray) -> Function:
    """The usual size of a residual, which no larger agreement makes larger."""
    fitted = _rising(-x, sizes)
    return lambda value: max(fitted(-value), SMALLEST_SPREAD)


def _left_out(x: FloatArray, y: FloatArray, whose: NDArray[np.intp], fit: Fit) -> FloatArray:
    """For each case, what those of other patients say of it."""
    found = np.empty(len(x))
    for patient in range(whose.max() + 1):
        own = whose == patient
        curve = fit(x[~own], y[~own])
        found[own] = [curve(value) for value in x[own]]
    return found


def _tails(residuals: FloatArray) -> tuple[float, float]:
    """The residuals below and above which a further case lies with half of 1 - `LEVEL` each."""
    count = len(residuals)
    cut = math.floor((count + 1) * (1 - LEVEL) / 2 + ROUNDING)
    below, above = np.sort(residuals)[[cut - 1, count - cut]]
    return min(float(below), 0.0), max(float(above), 0.0)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(min(max(value, 0.0), 1.0), 4) for value in values)
