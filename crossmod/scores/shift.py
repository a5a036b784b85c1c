"""By how much one image lies off another one of the same grid, whatever their contrast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossmod.data.cohorts import Cohort
from crossmod.data.volumes import Volume

Floats = NDArray[np.floating[Any]]

MOST_MM = 8.0
"""Shifts are looked for up to this."""

AVERAGED = 30
"""Scans of a cohort that are averaged, at most."""

FADED = 0.15
"""Share of an axis at either end over which edges fade out: the border of a crop is an edge that
both images share and that never moves."""


def shift_mm(fixed: Volume, moved: Volume) -> NDArray[np.float64]:
    """How far ``moved`` lies to the right, to the front and above ``fixed``.

    The peak of the cross-correlation of the gradient magnitudes, refined by a parabola along each
    axis. Gradient magnitudes of two modalities agree where their edges do, however bright the
    tissues are.

    Args:
        fixed: one image.
        moved: another on the same grid.

    Returns:
        ``(3,)``, mm along R, A, S; NaN if one of them has no edges.
    """
    first, second = (edges(volume) for volume in (fixed, moved))
    if not (first.any() and second.any()):
        return np.full(3, np.nan)
    reach = [
        min(int(MOST_MM / size), length // 4)
        for size, length in zip(fixed.spacing_mm, fixed.grid, strict=True)
    ]
    likeness = _correlation(first, second, reach)
    peak = np.unravel_index(np.argmax(likeness), likeness.shape)
    voxels = [
        place - half + _refined(likeness, peak, axis)
        for axis, (place, half) in enumerate(zip(peak, reach, strict=True))
    ]
    along: NDArray[np.float64] = fixed.affine[:3, :3] @ np.array(voxels)
    return along


def mean_shift_mm(fixed: Cohort, moved: Cohort) -> NDArray[np.float64]:
    """How far heads of one cohort lie to the right, to the front and above those of another.

    Two mean images are compared as `shift_mm` does; up to 30 scans of a cohort enter its mean.
    Scans of different numbers of voxels are laid on each other by their middle.

    Args:
        fixed: scans of one voxel size.
        moved: other scans of this voxel size, of another modality perhaps.

    Returns:
        ``(3,)``, mm along R, A, S; NaN if a cohort is empty or a mean has no edges.
    """
    one, other = mean_image(fixed), mean_image(moved)
    if one is None or other is None:
        return np.full(3, np.nan)
    shared = tuple(map(min, one.grid, other.grid))
    return shift_mm(on_grid(one, shared), on_grid(other, shared))


def mean_image(images: Cohort) -> Volume | None:
    """The mean of some scans, on the grid of the first; None without any."""
    volumes = [case.volume() for case in images.cases[:: -(-len(images) // AVERAGED) or 1]]
    if not volumes:
        return None
    total = np.zeros(volumes[0].data.shape)
    for volume in volumes:
        total += on_grid(volume, volumes[0].grid).data
    return volumes[0].with_data((total / len(volumes)).astype(np.float32))


def on_grid(image: Volume, shape: tuple[int, ...]) -> Volume:
    """Cut or extend a scan evenly at both ends to ``shape`` voxels ``(I, J, K)``.

    What it adds repeats the outermost voxels.
    """
    data = image.data
    for axis, (has, wanted) in enumerate(zip(image.grid, shape, strict=True), start=1):
        if wanted != has:
            taken = np.clip(np.arange(wanted) - (wanted - has) // 2, 0, has - 1)
            data = np.take(data, taken, axis=axis)
    return image.with_data(data)


def median_shift(shifts: Iterable[ArrayLike]) -> NDArray[np.float64] | None:
    """The median of shifts ``(3,)`` but for those of images without edges; None without any."""
    known = [one for one in map(np.asarray, shifts) if np.isfinite(one).all()]
    return np.median(known, axis=0) if known else None


def in_voxels(image: Volume, mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A shift ``(3,)`` in mm along R, A, S as one in voxels along the axes of an image."""
    along: NDArray[np.float64] = np.linalg.inv(image.affine[:3, :3]) @ mm
    return along


def edges(volume: Volume) -> Floats:
    """Gradient magnitude per mm ``(I, J, K)``, its mean taken away, faded out towards the ends."""
    steps = np.gradient(volume.data[0], *volume.spacing_mm)
    found: Floats = np.sqrt(sum(step**2 for step in steps))
    found = found - found.mean()
    for axis, length in enumerate(found.shape):
        shape = [1, 1, 1]
        shape[axis] = length
        found = found * _fade(length).reshape(shape)
    return found


def _fade(length: int) -> Floats:
    """1 in the middle, falling to nearly 0 at both ends as a cosine."""
    from_end = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    weights: Floats = np.sin(np.pi / 2 * np.minimum(from_end / (FADED * length), 1)) ** 2
    return weights


def _correlation(first: Floats, second: Floats, reach: list[int]) -> Floats:
    """Sum of products for each shift of the second image against the first, up to ``reach``."""
    sizes = [length + half for length, half in zip(first.shape, reach, strict=True)]
    axes = (0, 1, 2)
    one, other = (np.fft.rfftn(edged, sizes, axes) for edged in (first, second))
    whole = np.fft.irfftn(np.conj(one) * other, sizes, axes)
    rows = [np.arange(-half, half + 1) for half in reach]
    return np.asarray(whole[np.ix_(*rows)])


def _refined(values: Floats, peak: tuple[np.intp, ...], axis: int) -> float:
    """Where the parabola through a peak and its neighbors is highest, within half a step."""
    place = int(peak[axis])
    if not 0 < place < values.shape[axis] - 1:
        return 0.0
    line = np.moveaxis(values, axis, 0)[(slice(place - 1, place + 2), *np.delete(peak, axis))]
    before, here, after = map(float, line)
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
