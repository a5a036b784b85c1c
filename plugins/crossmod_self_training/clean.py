"""From predictions to pseudo-labels, and how much two rounds of them agree."""

from __future__ import annotations

import numpy as np

from crossmod import Cohort


def confidence(probabilities: np.ndarray, labels: np.ndarray, label: int) -> float:
    """Mean probability of a structure over the voxels labeled so; 0 where there are none.

    Args:
        probabilities: ``(1 + classes, I, J, K)``.
        labels: ``(I, J, K)``.
        label: the structure.
    """
    mask = labels == label
    return float(probabilities[label][mask].mean()) if mask.any() else 0.0


def agreement(older: Cohort, newer: Cohort, label: int) -> float:
    """Mean Dice of a structure between two rounds, over the cases of either.

    A case that only one round has counts as 0: the rounds disagree about it.
    """
    before = {case.case: case for case in older.cases}
    after = {case.case: case for case in newer.cases}
    scores = [
        _dice(before[name].pair().labels == label, after[name].pair().labels == label)
        if name in before and name in after
        else 0.0
        for name in sorted(before.keys() | after.keys())
    ]
    return sum(scores) / len(scores) if scores else 0.0


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0
