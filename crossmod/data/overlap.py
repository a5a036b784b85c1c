"""How far two masks cover the same voxels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


def dice(one: BoolArray, other: BoolArray) -> float:
    """Twice the overlap over the sum of sizes, in [0, 1] (Dice, Ecology 1945).

    Args:
        one: a mask of any shape.
        other: a mask of the same shape.

    Returns:
        NaN where both masks are empty.

    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    >>> dice(np.zeros(3, bool), np.zeros(3, bool))
    nan
    """
    total = np.count_nonzero(one) + np.count_nonzero(other)
    if total == 0:
        return math.nan
    return float(2 * np.count_nonzero(one & other) / total)
