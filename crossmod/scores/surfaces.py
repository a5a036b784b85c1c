"""How far the surfaces of two masks lie apart, and the metrics read from these distances.

The surface of a mask is made of its voxels that have a face neighbor outside it; what lies beyond
the edge of the grid is outside. Distances run between voxel centers, in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Spacing = tuple[float, float, float]
"""Voxel size in mm along I, J, K."""

Definition = Literal["pooled", "directed"]
"""How two directions become one mean.

"pooled": the mean of all distances of both directions (MedPy 0.5).
"directed": the mean of the two directed means (MedPy 0.4, and so the scores of the challenge).
"""

ROUNDING_MM = 1e-5
"""A distance this little above a tolerance is within it: voxel sizes in files are rounded."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances between the surfaces of a prediction and a reference; neither is empty.

    Attributes:
        from_prediction: ``(N,)`` mm, from each surface voxel of the prediction to the nearest one
            of the reference.
        from_reference: ``(M,)`` mm, the other way round.

    >>> distances = Distances(np.array([0.0, 1.0]), np.array([2.0, 5.0]))
    >>> distances.assd_mm(), distances.assd_mm("directed")
    (2.0, 2.0)
    >>> distances.nsd(tolerance_mm=1.0)
    0.5
    >>> round(distances.hd95_mm(), 2)
    4.55
    """

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]

    @cached_property
    def pooled(self) -> NDArray[np.float64]:
        """Both directions, ``(N + M,)`` mm."""
        return np.concatenate([self.from_prediction, self.from_reference])

    def assd_mm(self, definition: Definition = "pooled") -> float:
        """Average symmetric surface distance: ``medpy.metric.binary.assd``."""
        if definition == "pooled":
            return float(self.pooled.mean())
        return float((self.from_prediction.mean() + self.from_reference.mean()) / 2)

    def hd95_mm(self) -> float:
        """The 95th percentile of the pooled distances: ``medpy.metric.binary.hd95``.

        Between two distances the percentile is interpolated linearly.
        """
        return float(np.percentile(self.pooled, 95))

    def nsd(self, tolerance_mm: float) -> float:
        """Normalized surface Dice: the share of the pooled distances within a tolerance, in [0, 1].

        The metric of Nikolov et al. (JMIR 2021) with each surface voxel counted once, as MONAI
        does; DeepMind's own code weighs them by the surface area they stand for.
        """
        within = self.pooled <= tolerance_mm + ROUNDING_MM
        return float(np.count_nonzero(within) / len(within))


def surface_distances(
    prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing
) -> Distances:
    """Measure two masks ``(I, J, K)``, each with at least one voxel.

    >>> masks = np.zeros((2, 4, 4, 4), bool)
    >>> masks[0, 1, 1, 0] = masks[1, 1, 1, 3] = True
    >>> surface_distances(masks[0], masks[1], (0.5, 0.5, 2.0)).from_prediction
    array([6.])
    """
    first, second = (_surface_mm(mask, spacing_mm) for mask in (prediction, reference))
    return Distances(_nearest_mm(first, second), _nearest_mm(second, first))


def _surface_mm(mask: BoolArray, spacing_mm: Spacing) -> NDArray[np.float64]:
    """Positions ``(N, 3)`` in mm of the mask's voxels that have a face neighbor outside it."""
    # Outside the mask's own box nothing is set, so only the box, with a rim of zeros, is looked at.
    corner, box = _box(mask)
    padded = np.pad(mask[box], 1)
    core = (slice(1, -1),) * 3
    inside = padded[core].copy()
    for axis in range(3):
        for part in (slice(None, -2), slice(2, None)):
            inside &= padded[(*core[:axis], part, *core[axis + 1 :])]
    voxels = np.argwhere(padded[core] & ~inside) + corner
    return np.asarray(voxels * np.asarray(spacing_mm), dtype=np.float64)


def _box(mask: BoolArray) -> tuple[NDArray[np.int64], tuple[slice, ...]]:
    """The first corner and the slices of the smallest box that holds a mask."""
    spans = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        spans.append((int(used[0]), int(used[-1]) + 1))
    corner = np.array([start for start, _ in spans], dtype=np.int64)
    return corner, tuple(slice(*span) for span in spans)


def _nearest_mm(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance ``(N,)`` from each point to the nearest of the others."""
    from scipy.spatial import cKDTree

    # Grid points fill space evenly, so the cheap split is as good as the balanced one.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0], dtype=np.float64)
