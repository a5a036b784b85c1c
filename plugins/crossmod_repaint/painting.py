"""Another intensity for a structure, and for its part of the voxels that it shares with others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod import FloatArray, Pair

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

REACH = 2
"""Voxels beyond a label to which resampling and the blur of the scanner carry some of it."""

SHELL = 2
"""Width of the surroundings beyond them, voxels."""

BLUR = 1.5
"""Standard deviation of the Gaussian that carries the surroundings to the border, voxels."""

SMALLEST_CORE = 8
"""Voxels away from the border that tell what a structure looks like; with fewer, all of it does."""

TRUNCATE = 4.0
"""Standard deviations after which it ends."""

CLEAR = 0.3
"""Where structure and surroundings differ by this or more, intensities alone tell the shares."""

SOFT = 0.5
"""Standard deviation of the Gaussian that makes shares of a label, voxels."""


def painted(pair: Pair, label: int, wanted: float, texture: float) -> FloatArray:
    """Give a structure another mean intensity.

    A voxel at its border holds a share of it, (x - s) / (m - s), between the surroundings s and the
    mean m of the structure; it becomes s + share (wanted - s). Scaling the label alone would leave
    a bright margin outside and make a dark one inside, and a translator would draw a ring.

    Args:
        pair: an image in [0, 1] and its labels.
        label: the value of the structure; it is there.
        wanted: its new mean.
        texture: share of the differences inside that is kept, relative to the mean where that
            falls; a brighter structure keeps them as they are, or its noise would grow with it.

    Returns:
        The changed image, float32 ``(1, I, J, K)`` in [0, 1].
    """
    from scipy import ndimage

    result = pair.image.data.astype(np.float32)
    box = _box(pair.labels == label)
    image, labels = result[0][box].astype(np.float64), pair.labels[box]
    inside = labels == label
    near = ndimage.binary_dilation(inside, iterations=REACH)
    core = ndimage.binary_erosion(inside)
    mean = max(float(image[core if core.sum() >= SMALLEST_CORE else inside].mean()), 1e-3)
    around = _surroundings(image, near)
    share = _shares(image, inside, mean, around) * (near & ((labels == 0) | inside))
    share[core] = 1
    rest = image - (around + share * (mean - around))
    kept = np.where(inside, texture * min(wanted / mean, 1.0), 1.0)
    changed = np.where(share > 0, around + share * (wanted - around) + kept * rest, image)
    result[0][box] = changed
    return np.clip(result, 0, 1)


def _box(inside: Mask) -> tuple[slice, ...]:
    """The part of a volume that holds a structure and all that its border depends on."""
    from scipy import ndimage

    [found] = ndimage.find_objects(inside.astype(np.uint8))
    margin = REACH + SHELL + round(TRUNCATE * BLUR)
    return tuple(slice(max(0, one.start - margin), one.stop + margin) for one in found)


def _surroundings(image: Floats, near: Mask) -> Floats:
    """What lies around the structure, carried to its border; elsewhere it is not used."""
    from scipy import ndimage

    shell = ndimage.binary_dilation(near, iterations=SHELL) & ~near
    weights = ndimage.gaussian_filter(shell.astype(np.float64), BLUR, truncate=TRUNCATE)
    values = ndimage.gaussian_filter(np.where(shell, image, 0.0), BLUR, truncate=TRUNCATE)
    found: Floats = np.where(weights > 1e-4, values / np.maximum(weights, 1e-4), image)
    return found


def _shares(image: Floats, inside: Mask, mean: float, around: Floats) -> Floats:
    """How much of each voxel near the structure is the structure.

    Intensities tell where the structure stands out, and the label where it does not.
    """
    from scipy import ndimage

    by_label = ndimage.gaussian_filter(inside.astype(np.float64), SOFT)
    apart = mean - around
    by_image = np.clip((image - around) / np.where(apart == 0, 1.0, apart), 0.0, 1.0)
    told = np.clip(np.abs(apart) / CLEAR, 0.0, 1.0)
    found: Floats = told * by_image + (1 - told) * by_label
    return found
