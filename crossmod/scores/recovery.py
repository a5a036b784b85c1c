"""How well structures are found in images of patients that a small segmenter has not seen.

A structure that a translator erased or drew over cannot be found again, however its label says that
it is there. The segmenter looks at single voxels: intensities, edges and what lies around, at a few
scales, and roughly where the voxel is. It is a ridge regression on random cosine features (Rahimi
and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007), cross-validated over
patients, so that it takes seconds, needs no GPU and gives the same figures each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Case, Cohort, Volume

Floats = NDArray[np.floating[Any]]

FOLDS = 5
"""Parts that patients are split into; fewer where there are fewer patients."""

MARGIN_MM = 8.0
"""The segmenter looks where any case has a structure, and this far around."""

STEP_MM = 1.5
"""Finest distance of the places it looks at."""

MOST_PLACES = 60_000
"""Of one case; the distance grows in larger fields."""

MOST_ROWS = 40_000
"""Places it learns from, over all cases."""

ROWS_OF_CASE = 1000
"""Places it learns from in one case, at most."""

SCALES_MM = (1.0, 2.0, 4.0)
"""Widths of the Gaussians an image is smoothed by."""

AROUND_MM = 6.0
"""Distance at which it looks to each side."""

WAVES = 128
"""Cosine features."""

BANDWIDTH = 2.0
"""Higher is smoother, in standard deviations of the features together."""

RIDGE = 1e-3
"""Penalty, as a share of the number of rows."""

POSITION = 3
"""The first columns say where a voxel is."""

LEVELS = 200
"""Thresholds that are tried."""


class Recovery(NamedTuple):
    """How well a structure of one case was found.

    Attributes:
        dice: with its image, in [0, 1].
        by_position: knowing only where structures of other patients lie; what `dice` has beyond
            this is seen in the image.
    """

    dice: float
    by_position: float


@dataclass(frozen=True)
class Field:
    """The part of the grid of a cohort that is looked at.

    Attributes:
        box: the voxels.
        strides: every so manyth voxel along I, J, K.
    """

    box: tuple[slice, ...]
    strides: tuple[int, ...]

    @property
    def places(self) -> tuple[slice, ...]:
        """The voxels that are looked at."""
        return tuple(
            slice(part.start, part.stop, stride)
            for part, stride in zip(self.box, self.strides, strict=True)
        )


def recover(cohort: Cohort) -> dict[tuple[str, str], Recovery]:
    """Find each structure in the images of a labeled cohort, each case by models of other patients.

    Args:
        cohort: images ``(1, I, J, K)`` on grids of one shape, with labels.

    Returns:
        (case, structure) -> how well it was found, for structures that are there. Empty if there
        are fewer than two patients.
    """
    patients = len({case.patient for case in cohort.cases})
    field = field_of(cohort)
    if patients < 2 or field is None:
        return {}
    folds = cohort.folds(min(FOLDS, patients), seed=0)
    held = [{case.case for case in validation.cases} for _, validation in folds]
    sample = _sample(cohort, field, held)
    labels = list(cohort.classes.values())
    columns = sample.rows.shape[1]
    by_image, by_place = (Finders(sample, labels, use) for use in (slice(None), slice(POSITION)))
    places: dict[int, NDArray[np.bool_]] = {}  # guessed by place: the same in all cases of a fold
    found: dict[tuple[str, str], Recovery] = {}
    for case in cohort.cases:
        part = next(n for n, names in enumerate(held) if case.case in names)
        truth = _labels(case, field)
        rows = features(case.volume(), field).reshape(-1, columns)
        if part not in places:
            places[part] = by_place.guess(rows, part)
        guesses = by_image.guess(rows, part), places[part]
        for n, (name, label) in enumerate(cohort.classes.items()):
            there = truth == label
            if there.any():
                found[case.case, name] = Recovery(*(_dice(guess[:, n], there) for guess in guesses))
    return found


def field_of(cohort: Cohort) -> Field | None:
    """Where any case has a structure, and what is around; None if no case has one."""
    lows, highs = [], []
    spacing = np.ones(3)
    shape = np.zeros(3, int)
    for case in cohort.cases:
        pair = case.pair()
        places = np.argwhere(pair.labels)
        spacing, shape = np.array(pair.image.spacing_mm), np.array(pair.labels.shape)
        if len(places):
            lows.append(places.min(axis=0))
            highs.append(places.max(axis=0) + 1)
    if not lows:
        return None
    margin = np.ceil(MARGIN_MM / spacing).astype(int)
    low = np.maximum(np.min(lows, axis=0) - margin, 0)
    high = np.minimum(np.max(highs, axis=0) + margin, shape)
    volume = float(np.prod((high - low) * spacing))
    step = max(STEP_MM, (volume / MOST_PLACES) ** (1 / 3))
    strides = np.maximum(1, np.rint(step / spacing)).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Field(box, tuple(strides.tolist()))


def features(image: Volume, field: Field) -> Floats:
    """What is known of each place of a field, float32 ``(i, j, k, features)``.

    Position in mm, the intensity and how it changes at a few scales, and intensities to each side.
    """
    from scipy import ndimage

    size = np.array(image.spacing_mm)
    reach = np.ceil((AROUND_MM + 3 * max(SCALES_MM)) / size).astype(int)
    low = np.maximum([part.start - r for part, r in zip(field.box, reach, strict=True)], 0)
    high = [part.stop + int(r) for part, r in zip(field.box, reach, strict=True)]
    near = image.data[0][tuple(slice(int(a), b) for a, b in zip(low, high, strict=True))]
    inside = tuple(
        slice(part.start - int(a), part.stop - int(a), part.step)
        for part, a in zip(field.places, low, strict=True)
    )
    grids = np.meshgrid(
        *(np.arange(p.start, p.stop, p.step) * s for p, s in zip(field.places, size, strict=True)),
        indexing="ij",
    )
    columns: list[Floats] = [*grids, near[inside]]
    for scale in SCALES_MM:
        smooth = ndimage.gaussian_filter(near, scale / size)
        slopes = np.gradient(smooth, *size)
        columns += [smooth[inside], np.sqrt(sum(slope[inside] ** 2 for slope in slopes))]
        if scale == SCALES_MM[1]:
            columns += _beside(smooth, inside, size)
    return np.stack(columns, axis=-1).astype(np.float32)


def _beside(smooth: Floats, inside: tuple[slice, ...], size: Floats) -> list[Floats]:
    """Intensities at a distance to each side of every place; those of the border beyond it."""
    found = []
    for axis, (part, voxel) in enumerate(zip(inside, size, strict=True)):
        for sign in (-1, 1):
            far = round(sign * AROUND_MM / voxel) + np.arange(part.start, part.stop, part.step)
            taken = np.take(smooth, np.clip(far, 0, smooth.shape[axis] - 1), axis=axis)
            others = [slice(None) if n == axis else one for n, one in enumerate(inside)]
            found.append(taken[tuple(others)])
    return found


class Sample(NamedTuple):
    """Places to learn from.

    Attributes:
        rows: their features ``(n, features)``.
        labels: what is there.
        weights: how many places each stands for.
        parts: the fold that holds each.
        folds: how many there are.
    """

    rows: Floats
    labels: NDArray[np.uint8]
    weights: Floats
    parts: NDArray[np.int64]
    folds: int


def _sample(cohort: Cohort, field: Field, held: Sequence[set[str]]) -> Sample:
    """Half the places from structures, half from the rest, drawn from every case alike."""
    quota = min(ROWS_OF_CASE, MOST_ROWS // len(cohort))
    rows, labels, weights, parts = [], [], [], []
    for number, case in enumerate(cohort.cases):
        truth = _labels(case, field)
        values = features(case.volume(), field)
        values = values.reshape(-1, values.shape[-1])
        rng = np.random.default_rng([number])
        for label in (0, *cohort.classes.values()):
            there = np.flatnonzero(truth == label)
            wanted = quota // 2 if label == 0 else quota // 2 // len(cohort.classes)
            drawn = np.sort(rng.permutation(there)[:wanted])
            rows.append(values[drawn])
            labels.append(truth[drawn])
            weights.append(np.full(len(drawn), len(there) / max(1, len(drawn))))
            part = next(n for n, names in enumerate(held) if case.case in names)
            parts.append(np.full(len(drawn), part))
    return Sample(
        np.concatenate(rows),
        np.concatenate(labels),
        np.concatenate(weights),
        np.concatenate(parts),
        len(held),
    )


class Finders:
    """A segmenter for each fold, learned from the others.

    Args:
        sample: what to learn from.
        labels: the label of each structure.
        use: the columns that are looked at.
    """

    def __init__(self, sample: Sample, labels: Sequence[int], use: slice) -> None:
        rows = sample.rows[:, use]
        self.use, self.mean = use, rows.mean(axis=0)
        self.scale = np.maximum(rows.std(axis=0), 1e-6)
        rng = np.random.default_rng(0)
        width = rows.shape[1]
        self.waves = rng.standard_normal((width, WAVES)).astype(np.float32)
        self.waves /= np.float32(BANDWIDTH * np.sqrt(width) / 2)
        self.phases = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)
        lifted = self._lifted(sample.rows)
        truth = (sample.labels[:, None] == np.array(labels)).astype(np.float32)
        self.weights, self.limits = [], []
        for part in range(sample.folds):
            others = sample.parts != part
            known, right = lifted[others], truth[others]
            square = (known.T @ known).astype(np.float64)
            square += RIDGE * len(known) * np.eye(len(square))
            solved = np.linalg.solve(square, (known.T @ right).astype(np.float64))
            scores = known @ solved.astype(np.float32)
            self.weights.append(solved.astype(np.float32))
            self.limits.append(
                [
                    _limit(s, r > 0, sample.weights[others])
                    for s, r in zip(scores.T, right.T, strict=True)
                ]
            )

    def guess(self, rows: Floats, part: int) -> NDArray[np.bool_]:
        """Whether each structure is at each place ``(n, structures)``, by the model of a fold."""
        found: NDArray[np.bool_] = self._lifted(rows) @ self.weights[part] > self.limits[part]
        return found

    def _lifted(self, rows: Floats) -> Floats:
        """Cosine features, the standardized ones and a constant ``(n, features)``."""
        plain = ((rows[:, self.use] - self.mean) / self.scale).astype(np.float32)
        waves = np.cos(plain @ self.waves + self.phases)
        return np.concatenate([waves, plain, np.ones((len(plain), 1), np.float32)], axis=1)


def _limit(scores: Floats, there: NDArray[np.bool_], weights: Floats) -> float:
    """The threshold of scores that gives the highest Dice."""
    tried = np.quantile(scores[there], np.linspace(0, 1, LEVELS)) if there.any() else [np.inf]
    order = np.argsort(scores)
    ranked = scores[order]
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0)
    hits = np.append(np.cumsum((weights * there)[order][::-1])[::-1], 0)
    first = np.searchsorted(ranked, tried, side="right")
    dice = 2 * hits[first] / (above[first] + hits[0] + 1e-12)
    return float(tried[int(np.argmax(dice))])


def _labels(case: Case, field: Field) -> NDArray[np.uint8]:
    return np.asarray(case.pair().labels[field.places]).ravel()


def _dice(guess: NDArray[np.bool_], there: NDArray[np.bool_]) -> float:
    return float(2 * (guess & there).sum() / (guess.sum() + there.sum()))
