"""Measures of a labeled structure, and the `where` filters of recipes over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmod.data import Case, LabelArray, Pair, Volume
from crossmod.options import Options

SHELL_VOXELS = 3
"""Width of the surroundings that `contrast` compares a structure with."""


@dataclass(frozen=True)
class Lesion:
    """What can be said of one structure in one image.

    Attributes:
        volume_mm3: volume; 0 where the structure is absent.
        mean: mean intensity, in the units of the image ([0, 1] after preprocessing).
        std: standard deviation of the intensity inside.
        contrast: mean inside minus mean of a shell of 3 voxels around it.
    """

    volume_mm3: float
    mean: float
    std: float
    contrast: float


def measure(image: Volume, labels: LabelArray, label: int) -> Lesion:
    """Measure the structure with value ``label`` in ``labels`` ``(I, J, K)``."""
    from scipy import ndimage

    mask = labels == label
    if not mask.any():
        return Lesion(0.0, 0.0, 0.0, 0.0)
    values = image.data[0][mask]
    shell = ndimage.binary_dilation(mask, iterations=SHELL_VOXELS) & (labels == 0)
    around = float(image.data[0][shell].mean()) if shell.any() else float(values.mean())
    volume = float(mask.sum()) * float(np.prod(image.spacing_mm))
    mean = float(values.mean())
    return Lesion(volume, mean, float(values.std()), mean - around)


class Bounds(Options):
    """An open interval; a missing end does not bound."""

    above: float | None = None
    """Only values greater than this."""
    below: float | None = None
    """Only values less than this."""

    def contains(self, value: float) -> bool:
        """Whether a value lies inside."""
        too_low = self.above is not None and value <= self.above
        too_high = self.below is not None and value >= self.below
        return not (too_low or too_high)


class FitOn(Options):
    """Which cases a stage learns from."""

    center: str | None = None
    """Only cases of this center."""

    def keeps(self, case: Case) -> bool:
        """Whether a case is kept."""
        return self.center is None or case.center == self.center


class Where(Options):
    """Which pairs a rule applies to; all conditions must hold."""

    center: str | None = None
    """Only cases of this center."""
    volume_mm3: Bounds = Bounds()
    """Volume of the structure."""
    mean: Bounds = Bounds()
    """Mean intensity of the structure, in [0, 1]."""
    std: Bounds = Bounds()
    """Standard deviation of the intensity inside the structure, in [0, 1]."""
    contrast: Bounds = Bounds()
    """Mean intensity of the structure minus that of its surroundings."""

    def matches(self, pair: Pair, lesion: Lesion) -> bool:
        """Whether a pair whose structure measures ``lesion`` fulfills every condition."""
        if self.center is not None and pair.center != self.center:
            return False
        return lesion.volume_mm3 > 0 and all(
            getattr(self, name).contains(getattr(lesion, name))
            for name in ("volume_mm3", "mean", "std", "contrast")
        )
