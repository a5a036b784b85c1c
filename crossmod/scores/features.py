"""What is known of each place of an image: where it is, how bright, and what lies around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cohorts import Cohort
from crossmod.data.volumes import Volume

Floats = NDArray[np.floating[Any]]

MARGIN_MM = 8.0
"""Places lie where any case has a structure, and this far around."""

STEP_MM = 1.5
"""Finest distance of places."""

MOST_PLACES = 60_000
"""Of one case; the distance grows in larger fields."""

SCALES_MM = (1.0, 2.0, 4.0)
"""Widths of the Gaussians an image is smoothed by."""

AROUND_MM = 6.0
"""Distance at which it looks to each side."""

POSITION = 3
"""The first columns say where a voxel is."""


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


def field_of(cohort: Cohort) -> Field | None:
    """Where any case has a structure, and what is around, on all grids; None without any."""
    lows, highs, shapes = [], [], []
    spacing = np.ones(3)
    for case in cohort.cases:
        pair = case.pair()
        places = np.argwhere(pair.labels)
        spacing = np.array(pair.image.spacing_mm)
        shapes.append(pair.labels.shape)
        if len(places):
            lows.append(places.min(axis=0))
            highs.append(places.max(axis=0) + 1)
    if not lows:
        return None
    margin = np.ceil(MARGIN_MM / spacing).astype(int)
    low = np.maximum(np.min(lows, axis=0) - margin, 0)
    high = np.minimum(np.max(highs, axis=0) + margin, np.min(shapes, axis=0))
    if (high <= low).any():
        return None
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
