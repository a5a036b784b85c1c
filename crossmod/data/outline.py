"""Where a head or body lies in a scan, whatever the units and the offset of its intensities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import FloatArray

Center = Literal["bright", "head", "body"]
"""What a crop is centered on."""

BRIGHT_PERCENTILE = 75
"""Voxels above this percentile are bright; their mean position is the "bright" center."""

TISSUE_PERCENTILE = 99
"""Stands for bright tissue."""

LEVEL = 0.15
"""The outline passes at this share of the way from air to bright tissue."""

EDGES = (0.02, 0.98)
"""Quantiles of the outlined voxels along an axis between which their middle lies."""

SEPARABILITY = 0.9
"""Share of the variance that lies between air and tissue. Voxels of tissue alone have about 0.75,
those of a CT scan without its padding 0.95."""

BINS = 256

MARGIN = 0.05
"""Share of the plane along an axis that counts as its side."""

RARE = 1e-3
"""A smaller share of voxels is not background."""


def center_of(data: FloatArray, center: Center) -> NDArray[np.float64]:
    """The point, voxels, that the crop of a scan ``(I, J, K)`` is centered on."""
    return FINDERS[center](data)


def bright_center(data: FloatArray) -> NDArray[np.float64]:
    """Mean position, voxels, of the voxels of ``(I, J, K)`` above the 75th percentile."""
    bright = data > np.percentile(data, BRIGHT_PERCENTILE)
    if not bright.any():
        return _middle_of_grid(data)
    return np.array(
        [
            np.average(np.arange(n), weights=profile(bright, axis))
            for axis, n in enumerate(data.shape)
        ]
    )


def head_middle(data: FloatArray) -> NDArray[np.float64]:
    """Middle, voxels, of what is not air in ``(I, J, K)``.

    Example:
        >>> scan = np.full((9, 9, 9), -1000.0)
        >>> scan[1:6, 2:9, 3:6] = 40.0
        >>> head_middle(scan).tolist(), head_middle(3 * scan + 7).tolist()
        ([3.0, 5.0, 4.0], [3.0, 5.0, 4.0])
    """
    return _middle(data > air_level(data))


def body_middle(data: FloatArray) -> NDArray[np.float64]:
    """Middle, voxels, of the largest connected part of ``(I, J, K)`` that is not air.

    A table, a head holder or an arm beside the body does not move it.
    """
    from scipy import ndimage

    parts, count = ndimage.label(data > air_level(data))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    return _middle(parts == 1 + sizes.argmax() if count else parts > 0)


FINDERS: dict[Center, Callable[[FloatArray], NDArray[np.float64]]] = {
    "bright": bright_center,
    "head": head_middle,
    "body": body_middle,
}


def air_level(data: FloatArray) -> float:
    """The intensity between air and tissue: it moves with any offset and factor.

    CT scans may be padded around the field of view with a value far below air, such as -2000 or
    -3024. The padding is not taken for air, nor are single dark voxels.
    """
    dark, bright = float(data.min()), float(np.percentile(data, TISSUE_PERCENTILE))
    rest = data[data > dark]
    least = float(rest.min()) if rest.size else dark
    if least - dark > (bright - least) / 2:
        rare = data.size - rest.size < RARE * data.size
        padded = _reaches_all_sides(data > dark) and _has_two_parts(rest, least, bright)
        dark = least if rare or padded else dark
    return dark + LEVEL * (bright - dark)


def _reaches_all_sides(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask reaches all four sides of the plane, as a round field of view does."""
    margins = [1 + int(MARGIN * n) for n in mask.shape[:2]]
    sides = (mask[: margins[0]], mask[-margins[0] :], mask[:, : margins[1]], mask[:, -margins[1] :])
    return all(side.any() for side in sides)


def _has_two_parts(values: FloatArray, low: float, high: float) -> bool:
    """Whether a threshold splits values into two narrow groups (Otsu, 1979)."""
    if low >= high:
        return False
    counts, _ = np.histogram(np.clip(values, low, high), BINS, (low, high))
    at = np.arange(BINS)
    below, above = np.cumsum(counts)[:-1], counts.sum() - np.cumsum(counts)[:-1]
    total = np.average(at, weights=counts)
    sums = np.cumsum(counts * at)[:-1]
    split = (below > 0) & (above > 0)
    apart = (total * below[split] - sums[split]) ** 2 / (below[split] * above[split])
    spread = np.average((at - total) ** 2, weights=counts)
    return bool(split.any() and apart.max() > SEPARABILITY * spread)


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not mask.any():
        return _middle_of_grid(mask)
    shares = [np.cumsum(profile(mask, axis)) / mask.sum() for axis in range(3)]
    return np.array([np.searchsorted(share, EDGES).mean() for share in shares])


def _middle_of_grid(data: NDArray[np.generic]) -> NDArray[np.float64]:
    return (np.array(data.shape) - 1) / 2


def profile(mask: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Number of voxels of a mask ``(I, J, K)`` in each plane across an axis."""
    others = tuple(other for other in range(3) if other != axis)
    counts: NDArray[np.float64] = mask.sum(axis=others).astype(np.float64)
    return counts
