"""Where the level of the lesions lies in an image that nobody labeled.

Scanner coordinates of two patients share no origin, and one slab covers 80 mm of the head where
another covers 120 mm. The level is therefore found by what is seen there: labeled images, laid
over each other with their lesions at one level, make a mean head, and an unlabeled image has its
level where it looks most like that.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from crossmod import DataError, Pair, Volume

CELL_MM = 8.0
"""Side of the in-plane cells that are compared: patients differ by less."""

CELLS = 24
"""Cells along each side of the compared square, around the middle of the plane."""

OFFSETS_MM = np.arange(-24.0, 25.0, 2.0)
"""Levels of the mean head, from the lesion upward."""

Floats = NDArray[np.float64]


class MeanHead:
    """What heads look like from 24 mm below to 24 mm above their lesions.

    Attributes:
        cells: mean intensities, ``(offsets, cells)``.
        known: offsets that at least half of the images cover.
    """

    def __init__(self, pairs: Iterable[Pair], label: int) -> None:
        """Average labeled images, each with the middle of its structure at offset 0.

        Raises:
            DataError: no image has the structure.
        """
        total, counts, images = np.zeros((OFFSETS_MM.size, CELLS**2)), np.zeros(OFFSETS_MM.size), 0
        for pair in pairs:
            indices = np.flatnonzero((pair.labels == label).any(axis=(0, 1)))
            if indices.size:
                rows, covered = around(pair.image, float(indices.mean()))
                total[covered] += cells_of(pair.image)[rows[covered]]
                counts += covered
                images += 1
        if not images:
            raise DataError("no labeled image contains the structure", where="structure")
        self.cells = total / np.maximum(counts, 1)[:, None]
        self.known = counts * 2 >= images

    def find(self, volume: Volume) -> tuple[int, float]:
        """The slice of the level, and how alike it is there: 1 is the same, 0 unrelated."""
        cells = cells_of(volume)
        places = [around(volume, float(index)) for index in range(len(cells))]
        shared = [covered & self.known for _, covered in places]
        # At the ends of a slab little is left to compare, which is easily alike.
        enough = max(int(both.sum()) for both in shared) / 2
        likeness = [
            correlation(self.cells[both], cells[rows[both]]) if both.sum() >= enough else -1.0
            for (rows, _), both in zip(places, shared, strict=True)
        ]
        best = int(np.argmax(likeness))
        return best, likeness[best]


def around(volume: Volume, index: float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The slice at each of `OFFSETS_MM` from a slice, and whether the image covers it."""
    rows = np.round(index + OFFSETS_MM / volume.spacing_mm[2]).astype(np.intp)
    return rows, (rows >= 0) & (rows < volume.grid[2])


def cells_of(volume: Volume) -> Floats:
    """Mean intensity of each cell of each slice, ``(K, cells)``; 0 outside the image."""
    image, sizes = volume.data[0], volume.spacing_mm
    across, along = (averages(image.shape[axis], sizes[axis]) for axis in (0, 1))
    cells: Floats = np.einsum("ai,bj,ijk->kab", across, along, image, optimize=True)
    return cells.reshape(image.shape[2], -1)


def averages(count: int, spacing_mm: float) -> Floats:
    """The matrix ``(CELLS, count)`` that takes the mean of the voxels in each cell."""
    middle_mm = (np.arange(count) - (count - 1) / 2) * spacing_mm
    inside = np.floor(middle_mm / CELL_MM) + CELLS // 2 == np.arange(CELLS)[:, None]
    weights: Floats = inside / np.maximum(inside.sum(axis=1), 1)[:, None]
    return weights


def correlation(one: Floats, other: Floats) -> float:
    """Of what changes along the axis, in ``(offsets, cells)``: each cell less its own mean."""
    one, other = (cells - cells.mean(axis=0) for cells in (one, other))
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale else 0.0
