"""One pass over a cohort: intensities of the images, sizes and brightnesses of their lesions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.data.nifti import read_labels
from crossmod.data.volumes import Case, FloatArray

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
        volume_mm3: volume of the lesion; 0 where absent or not labeled.
        mean: mean intensity of the lesion in [0, 1].
    """

    case: str
    center: str
    density: NDArray[np.float64]
    volume_mm3: float
    mean: float


def survey(cases: Iterable[Case], label: int) -> list[Sighting]:
    """Look at cases one at a time; ``label`` is the lesion's."""
    return [_look(case, label) for case in cases]


def _look(case: Case, label: int) -> Sighting:
    volume = case.volume()
    image = volume.data[0]
    size, mean = 0.0, 0.0
    if case.labels is not None:
        inside = image[read_labels(case.labels) == label]
        if inside.size:
            size = inside.size * float(np.prod(volume.spacing_mm))
            mean = float(inside.mean())
    return Sighting(case.case, case.center, _density(image), size, mean)


def _density(image: FloatArray) -> NDArray[np.float64]:
    counts, _ = np.histogram(image, bins=BINS, range=(AIR, 1.0))
    width = (1.0 - AIR) / BINS
    return np.asarray(counts / (max(1, counts.sum()) * width), dtype=np.float64)
