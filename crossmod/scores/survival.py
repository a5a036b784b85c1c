"""What translation makes of labeled structures: do they keep their contrast, texture and edge?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.data.lesions import SHELL_VOXELS
from crossmod.data.volumes import LabelArray, Volume


@dataclass(frozen=True)
class Look:
    """What a structure looks like in one image; intensities are in [0, 1].

    Attributes:
        mean: mean intensity inside.
        contrast: mean inside minus mean of a rim of 3 voxels around it.
        spread: standard deviation inside.
        sharpness: mean gradient magnitude over the voxels on both sides of its border, per mm.
    """

    mean: float
    contrast: float
    spread: float
    sharpness: float


def look(image: Volume, labels: LabelArray, label: int) -> Look | None:
    """Measure the structure with value ``label`` in ``labels`` ``(I, J, K)``; None without it."""
    inside = labels == label
    if not inside.any():
        return None
    box = _box(inside, SHELL_VOXELS + 1)
    inside, values = inside[box], np.asarray(image.data[0][box], dtype=np.float64)
    rim = _grown(inside, SHELL_VOXELS) & (labels[box] == 0)
    border = _grown(inside, 1) & _grown(~inside, 1)
    mean = float(values[inside].mean())
    around = float(values[rim].mean()) if rim.any() else mean
    steps = np.gradient(values, *image.spacing_mm)
    slope = np.sqrt(sum(step**2 for step in steps))
    return Look(mean, mean - around, float(values[inside].std()), float(slope[border].mean()))


def _box(inside: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """The part of a volume that holds a structure and what is around it, 2 voxels at least."""
    found = np.argwhere(inside)
    low, high = found.min(axis=0) - margin, found.max(axis=0) + margin + 1
    return tuple(slice(max(0, a), b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _grown(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    from scipy import ndimage

    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=voxels)
    return grown
