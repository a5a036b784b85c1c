"""Small, medium and large structures."""

from __future__ import annotations

from dataclasses import dataclass

from crossmod.data.crossmoda import SIZE_LIMITS_MM3

NAMES = ("small", "medium", "large")


@dataclass(frozen=True)
class Sizes:
    """Which structures are small and which are large, mm3.

    >>> [Sizes(100, 1000).name(volume) for volume in (99, 100, 1000, 1001)]
    ['small', 'medium', 'medium', 'large']
    """

    small_below: float
    large_above: float

    def name(self, volume_mm3: float) -> str:
        """What a volume is called: one of `NAMES`."""
        if volume_mm3 < self.small_below:
            return "small"
        return "large" if volume_mm3 > self.large_above else "medium"


USUAL = Sizes(*SIZE_LIMITS_MM3)
"""The sizes where nothing else is said."""
