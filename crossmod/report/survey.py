"""One pass over a cohort: intensities of the images, sizes and brightnesses of their lesions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cohorts import Case
from crossmod.data.coverage import seen_in
from crossmod.data.lesions import Lesion
from crossmod.data.volumes import FloatArray

BINS = 80
AIR = 0.05
"""Intensities, in [0, 1], from here down are mostly air and are left out of histograms."""


@dataclass(frozen=True)
class Sighting:
    """What one image shows.

    Attributes:
        case: case identifier.
        center: the hospital it comes from.
        density: ``(BINS,)`` intensity distribution over [AIR, 1], integral 1.
        lesion: the lesion, intensities in [0, 1]; of volume 0 where absent or not labeled.
        trust: how far its outline is trusted; 1 for references.
    """

    case: str
    center: str
    density: NDArray[np.float64]
    lesion: Lesion
    trust: float = 1.0

    @property
    def volume_mm3(self) -> float:
        """Volume of the lesion; 0 where absent or not labeled."""
        return self.lesion.volume_mm3

    @property
    def mean(self) -> float:
        """Mean intensity of the lesion in [0, 1]."""
        return self.lesion.mean


def survey(cases: Iterable[Case], label: int) -> list[Sighting]:
    """Look at cases one at a time; ``label`` is the lesion's."""
    return [_look(case, label) for case in cases]


def _look(case: Case, label: int) -> Sighting:
    if case.labels is None:
        nothing = Lesion(0.0, 0.0, 0.0, 0.0)
        return Sighting(case.case, case.center, _density(case.volume().data[0]), nothing)
    pair = case.pair()
    lesion, trust = seen_in(pair, label)
    return Sighting(case.case, case.center, _density(pair.image.data[0]), lesion, trust)


def _density(image: FloatArray) -> NDArray[np.float64]:
    counts, _ = np.histogram(image, bins=BINS, range=(AIR, 1.0))
    width = (1.0 - AIR) / BINS
    return np.asarray(counts / (max(1, counts.sum()) * width), dtype=np.float64)
