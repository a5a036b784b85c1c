"""How far the lesions of a training are from real ones, and which copies would bring them closer.

Of each lesion four figures count: mean and spread of its intensity, contrast to its rim, volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cohorts import Case
from crossmod.data.lesions import SHELL_VOXELS, Lesion, measure
from crossmod.data.volumes import Pair, Volume

FIGURES = ("mean", "spread", "contrast", "volume")
"""Columns of `figures_of`."""

Points = NDArray[np.float64]
"""Figures of lesions, ``(n, 4)``."""


def figures_of(lesions: Iterable[Lesion]) -> Points:
    """Figures ``(n, 4)``: mean, spread and contrast in the units of the image, log10 of mm3."""
    rows = [
        (one.mean, one.std, one.contrast, np.log10(max(one.volume_mm3, 1e-3))) for one in lesions
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(FIGURES))


@dataclass(frozen=True)
class Sample:
    """Lesions, each with the weight that it counts by.

    Attributes:
        points: figures ``(n, 4)``.
        weights: ``(n,)``, above 0.
    """

    points: Points
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, cases: Iterable[Case], label: int) -> Sample:
        """The lesions of labeled cases that show one, weighted by trust."""
        return cls.weighed([seen_in(case.pair(), label) for case in cases])

    @classmethod
    def weighed(cls, seen: Iterable[tuple[Lesion, float]]) -> Sample:
        """Lesions and their weights; those without volume or weight are left out."""
        kept = [(lesion, weight) for lesion, weight in seen if lesion.volume_mm3 and weight > 0]
        weights = np.array([weight for _, weight in kept], dtype=np.float64)
        return cls(figures_of(lesion for lesion, _ in kept), weights)

    def __len__(self) -> int:
        return len(self.points)

    def quantiles(self, column: int, count: int) -> NDArray[np.float64]:
        """``count`` values of a figure that halve shares of equal weight."""
        values = self.points[:, column]
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(self.weights[order])
        shares = (np.arange(count) + 0.5) / count * reached[-1]
        places = np.searchsorted(reached, shares).clip(max=len(values) - 1)
        return np.asarray(values[order][places], dtype=np.float64)


def seen_in(pair: Pair, label: int) -> tuple[Lesion, float]:
    """A structure, of volume 0 where it is absent, and how far its outline is trusted.

    Trust is the weight of the pair times the share of the structure that is not ignored.
    """
    inside = pair.labels == label
    ignored = 0.0
    if pair.ignore is not None and inside.any():
        ignored = float(pair.ignore[inside].mean())
    return measured(pair, label), pair.weight * (1 - ignored)


def measured(pair: Pair, label: int) -> Lesion:
    """What `measure` finds, to the same bits, looking only at what is near the structure."""
    inside = np.argwhere(pair.labels == label)
    if not len(inside):
        return measure(pair.image, pair.labels, label)
    low, high = inside.min(axis=0) - SHELL_VOXELS, inside.max(axis=0) + SHELL_VOXELS + 1
    box = tuple(slice(max(0, a), b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    image = pair.image
    near = Volume.of(image.data[:, *box], image.affine, case=image.case, center=image.center)
    return measure(near, pair.labels[box], label)


def wasserstein(lesions: Points, real: Sample) -> dict[str, float]:
    """Figure -> Wasserstein-1 distance between its distributions, in the units of the figure."""
    from scipy.stats import wasserstein_distance

    return {
        name: float(wasserstein_distance(lesions[:, n], real.points[:, n], v_weights=real.weights))
        for n, name in enumerate(FIGURES)
    }


def choose(
    candidates: Points, owners: Sequence[int], training: Points, real: Sample, count: int, most: int
) -> list[int]:
    """Choose copies that bring the lesions of a training closest to real ones.

    Each next copy is the one that lowers the energy distance (Szekely and Rizzo, Journal of
    Statistical Planning and Inference, 2013) between the training with it and the real lesions
    most, as in the support points of Mak and Joseph, Annals of Statistics, 2018. It has no
    parameters. Figures count in multiples of their standard deviation over all these lesions.

    Args:
        candidates: figures ``(m, 4)`` of possible copies.
        owners: ``(m,)``, the number of the lesion that each would be a copy of.
        training: figures ``(n, 4)`` of the lesions without copies.
        real: those to cover.
        count: how many are chosen, as far as there are enough.
        most: how many copies a lesion may have.

    Returns:
        Indices of candidates in the order of their choice, each at most once.
    """
    scale = _scale(real, training)
    places, others = candidates / scale, training / scale
    target = real.points / scale
    shares = real.weights / real.weights.sum()
    toward = np.zeros(len(places))  # mean distance to the real lesions
    for share, one in zip(shares, target, strict=True):
        toward += share * _away(places, one)
    apart = np.zeros(len(places))  # sum of distances to the training so far
    for one in others:
        apart += _away(places, one)
    left, free = np.full(max(owners, default=0) + 1, most), np.full(len(places), True)
    numbers, chosen = np.asarray(owners, dtype=np.int64), []
    for size in range(len(others) + 1, len(others) + 1 + count):
        open_to = free & (left[numbers] > 0)
        if not open_to.any():
            break
        best = int(np.argmin(np.where(open_to, toward - apart / size, np.inf)))
        chosen.append(best)
        free[best] = False
        left[numbers[best]] -= 1
        apart += _away(places, places[best])
    return chosen


def _scale(real: Sample, training: Points) -> Points:
    """A unit for each figure: its standard deviation over real lesions and training, half each."""
    shares = real.weights / real.weights.sum()
    if len(training):
        others = np.full(len(training), 1 / len(training))
        shares = np.concatenate([shares, others]) / 2
    points = np.concatenate([real.points, training])
    spread = np.sqrt(shares @ (points - shares @ points) ** 2)
    return np.where(spread > 1e-6, spread, 1.0)


def _away(points: Points, one: Points) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((points - one) ** 2).sum(axis=1)), dtype=np.float64)
