"""How well the lesions of a training cover those of the pseudo-labeled target, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossmod.data.coverage import FIGURES, Sample, figures_of, wasserstein
from crossmod.report.survey import Sighting


@dataclass(frozen=True)
class Coverage:
    """Distances of the lesions of a training to real ones.

    Attributes:
        real: how many pseudo-labeled lesions they are compared with.
        heads: of the columns.
        rows: which images, how many lesions, and a distance for each figure, as texts.
        means: distance of the mean intensity, for each row.
    """

    real: int
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    means: Sequence[float]


def coverage_of(
    trainings: Sequence[tuple[str, Sequence[Sighting]]], pseudo: Sequence[Sighting]
) -> Coverage | None:
    """Compare trainings with the pseudo-labeled target; None where that shows no lesion.

    Args:
        trainings: what each is called, and what its images show.
        pseudo: what pseudo-labeled scans show; each counts by its trust.
    """
    real = Sample.weighed([(one.lesion, one.trust) for one in pseudo])
    rows, means = [], []
    for name, seen in trainings:
        lesions = [one.lesion for one in seen if one.volume_mm3]
        if not len(real) or not lesions:
            continue
        found = wasserstein(figures_of(lesions), real)
        rows.append([name, str(len(lesions)), *(f"{found[figure]:.3f}" for figure in FIGURES)])
        means.append(found["mean"])
    heads = ("images", "lesions", "mean", "spread", "contrast to the rim", "volume, log10 mm³")
    return Coverage(len(real), heads, rows, means) if rows else None
