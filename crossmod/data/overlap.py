"""How far two masks cover the same voxels."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BoolArray: TypeAlias = NDArray[np.bool_]


def dice(one: BoolArray, other: BoolArray) -> float:
    """Twice the overlap of two masks over the sum of their sizes (Dice, Ecology 1945).

    Args:
        one: bool, of any shape.
        other: bool, of the same shape.

    Returns:
        0 where they share nothing to 1 where they are the same; NaN where both are empty.

    Example:
        >>> dice(np.array([True, True, False]), np.array([False, True, False]))
        0.6666666666666666
        >>> dice(np.zeros(3, bool), np.zeros(3, bool))
        nan
    """
    size = np.count_nonzero(one) + np.count_nonzero(other)
    return float(2 * np.count_nonzero(one & other) / size) if size else math.nan
