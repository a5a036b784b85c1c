"""How well structures are found in images of patients that a small segmenter has not seen.

A structure that a translator erased or drew over cannot be found again, however its label says that
it is there. The segmenter looks at single voxels: intensities, edges and what lies around, at a few
scales, and roughly where the voxel is. It is a ridge regression on random cosine features (Rahimi
and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007), cross-validated over
patients, so that it takes seconds, needs no GPU and gives the same figures each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.volumes import Volume
from crossmod.scores.features import POSITION, Field, Floats, features, field_of

FOLDS = 5
"""Parts that patients are split into; fewer where there are fewer patients."""

MOST_ROWS = 40_000
"""Places it learns from, over all cases."""

ROWS_OF_CASE = 1000
"""Places it learns from in one case, at most."""

WAVES = 128
"""Cosine features."""

BANDWIDTH = 2.0
"""Higher is smoother, in standard deviations of the features together."""

RIDGE = 1e-3
"""Penalty, as a share of the number of rows."""

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


Progress = Callable[[Sequence[Case]], Iterable[Case]]
"""Wraps cases that are gone through, to tell how far it is."""


class Members:
    """Small segmenters of a labeled cohort, one for each fold, learned from the other patients.

    Args:
        cohort: images ``(1, I, J, K)`` with labels, of two patients at least.
        field: where they look.
    """

    def __init__(self, cohort: Cohort, field: Field) -> None:
        patients = len({case.patient for case in cohort.cases})
        folds = cohort.folds(min(FOLDS, patients), seed=0)
        held = [{case.case for case in validation.cases} for _, validation in folds]
        sample = _sample(cohort, field, held)
        labels = list(cohort.classes.values())
        self.cohort, self.field, self.held = cohort, field, held
        self.by_image = Finders(sample, labels, slice(None))
        self.by_place = Finders(sample, labels, slice(POSITION))

    @classmethod
    def of(cls, cohort: Cohort) -> Members | None:
        """Those of a cohort; None of fewer than two patients, or where no structure is."""
        patients = len({case.patient for case in cohort.cases})
        field = field_of(cohort)
        return None if patients < 2 or field is None else cls(cohort, field)

    def rows(self, image: Volume) -> Floats:
        """The features of each place of an image ``(n, features)``."""
        found = features(image, self.field)
        return found.reshape(-1, found.shape[-1])

    def outlines(self, rows: Floats) -> NDArray[np.bool_]:
        """What each member finds at each place ``(members, n, structures)``."""
        return self.by_image.guesses(rows)

    def held_out(self, progress: Progress = iter) -> Iterator[HeldOut]:
        """Each case, seen by the member that has not learned from its patient."""
        places: dict[int, NDArray[np.bool_]] = {}  # guessed by place: the same in all of a fold
        for case in progress(self.cohort.cases):
            part = next(n for n, names in enumerate(self.held) if case.case in names)
            rows = self.rows(case.volume())
            if part not in places:
                places[part] = self.by_place.guess(rows, part)
            found = self.by_image.guess(rows, part)
            yield HeldOut(case, rows, _labels(case, self.field), found, places[part])


class HeldOut(NamedTuple):
    """One case in the eyes of a member that has not learned from its patient.

    Attributes:
        case: the case.
        rows: the features of each place ``(n, features)``.
        truth: the label there ``(n,)``.
        found: what the member outlines ``(n, structures)``.
        by_place: the same, knowing only the place.
    """

    case: Case
    rows: Floats
    truth: NDArray[np.uint8]
    found: NDArray[np.bool_]
    by_place: NDArray[np.bool_]

    def recoveries(self, classes: Mapping[str, int]) -> dict[tuple[str, str], Recovery]:
        """(case, structure) -> how well it was found, for structures that are there."""
        found = {}
        for n, (name, label) in enumerate(classes.items()):
            there = self.truth == label
            if there.any():
                dice = (_dice(guess[:, n], there) for guess in (self.found, self.by_place))
                found[self.case.case, name] = Recovery(*dice)
        return found


def recover(cohort: Cohort) -> dict[tuple[str, str], Recovery]:
    """Find each structure in the images of a labeled cohort, each case by models of other patients.

    Args:
        cohort: images ``(1, I, J, K)``, with labels; what lies beyond the smallest grid is left
            out.

    Returns:
        (case, structure) -> how well it was found, for structures that are there. Empty if there
        are fewer than two patients.
    """
    found: dict[tuple[str, str], Recovery] = {}
    members = Members.of(cohort)
    for one in members.held_out() if members else ():
        found |= one.recoveries(cohort.classes)
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

    def guesses(self, rows: Floats) -> NDArray[np.bool_]:
        """The same by the models of all folds ``(folds, n, structures)``."""
        lifted = self._lifted(rows)
        known = zip(self.weights, self.limits, strict=True)
        return np.stack([lifted @ weights > limits for weights, limits in known])

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
