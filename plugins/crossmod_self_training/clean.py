"""From predictions to pseudo-labels, and how much two rounds of them agree."""

from __future__ import annotations

import numpy as np

from crossmod import Cohort, FloatArray, LabelArray, dice


def confidence(probabilities: FloatArray, labels: LabelArray, label: int) -> float:
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

    A case that only one round has counts as 0: the rounds disagree about it. One in which neither
    has found the structure counts as 1.
    """
    before, after = ({case.case: case for case in round_.cases} for round_ in (older, newer))
    scores = []
    for name in sorted(before.keys() | after.keys()):
        if name in before and name in after:
            one, other = (found[name].pair().labels == label for found in (before, after))
            scores.append(dice(one, other))
        else:
            scores.append(0.0)
    return float(np.nan_to_num(scores, nan=1.0).mean()) if scores else 0.0
