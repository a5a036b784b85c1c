"""Pictures to judge the result by: what was learned, and lesions before and after."""

from __future__ import annotations

import numpy as np

from crossmod import FloatArray
from crossmod_singan_gba.blend import Mask

WINDOW_MM = 60.0
SHOWN_PIXELS = 180


def upright(image: FloatArray) -> FloatArray:
    """An axial slice ``(I, J)`` in R, A order as radiologists look at it: front up, right left."""
    return image.T[::-1, ::-1]


def enlarge(image: FloatArray, height: int, width: int) -> FloatArray:
    """Repeat pixels up to a size, so that every voxel stays visible."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    enlarged: FloatArray = image[rows][:, columns]
    return enlarged


def scale_rows(scales: list[FloatArray]) -> list[list[FloatArray]]:
    """One row per scale ``(n, h, w)``, all as large as the finest."""
    height, width = scales[-1].shape[1:]
    return [[upright(enlarge(image, height, width)) for image in images] for images in scales]


class LesionView:
    """A window of 60 mm around a lesion, in the slice where it is largest."""

    def __init__(self, mask: Mask, spacing_mm: tuple[float, float, float]) -> None:
        """Place the window for a mask ``(I, J, K)``."""
        self.slice = int(mask.sum(axis=(0, 1)).argmax())
        center = np.argwhere(mask[:, :, self.slice]).mean(axis=0)
        self.halves = [max(1, round(WINDOW_MM / 2 / mm)) for mm in spacing_mm[:2]]
        self.first = [round(c) - half for c, half in zip(center, self.halves, strict=True)]

    def __call__(self, data: FloatArray) -> FloatArray:
        """The window of an image ``(1, I, J, K)``, enlarged; zeros outside the image."""
        padded = np.pad(data[0, :, :, self.slice], [(half, half) for half in self.halves])
        i, j = (first + half for first, half in zip(self.first, self.halves, strict=True))
        window = padded[i : i + 2 * self.halves[0], j : j + 2 * self.halves[1]]
        return upright(enlarge(window, SHOWN_PIXELS, SHOWN_PIXELS))
