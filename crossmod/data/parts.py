"""Which parts of one outline belong to another."""

from __future__ import annotations

import numpy as np

from crossmod.data.lesions import components
from crossmod.data.overlap import BoolArray
from crossmod.data.volumes import LabelArray


def touching(labels: LabelArray, label: int, kept: BoolArray) -> LabelArray:
    """A label map whose structure has only the components that touch a mask.

    So folds that find the same lesion agree, whatever else they find.

    Args:
        labels: uint8 ``(I, J, K)``.
        label: the structure.
        kept: bool ``(I, J, K)``; where it is empty, all components stay.

    Example:
        >>> labels = np.array([1, 1, 0, 1], np.uint8)[:, None, None]
        >>> kept = np.array([False, True, False, False])[:, None, None]
        >>> touching(labels, 1, kept).ravel().tolist()
        [1, 1, 0, 0]
    """
    if not kept.any():
        return labels
    parts = components(labels == label)
    elsewhere = (parts > 0) & ~np.isin(parts, np.unique(parts[kept]))
    return np.where(elsewhere, 0, labels).astype(np.uint8)
