"""What differs between processors: how numbers round, and how long work takes."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np

SOON_S = 10.0
"""Seconds of a slow processor for work that takes a fast one well below a second.

What grows with the square of its input, or waits for what never comes, takes minutes.
"""


def rounding(operations: int, size: float = 1.0, dtype: Any = np.float32) -> float:
    """How far a number may be off that was made by operations one after the other.

    Each rounds by half a unit of the last place. Processors differ in the order of sums, in
    products that are added without rounding, and in the last place of `exp` or `sin`.

    Args:
        operations: as many as depend on each other; the terms of a sum count.
        size: the largest number on the way.
        dtype: the number format.
    """
    return operations * float(np.finfo(dtype).eps) / 2 * size


AFFINE_MM = rounding(8, size=256)
"""Affines in single precision, as NIfTI stores them: products and sums of up to 256 mm, 1.2e-4."""


def children_seconds() -> float:
    """Seconds of the processor that ended child processes took; other tests do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
