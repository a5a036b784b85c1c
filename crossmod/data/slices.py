"""Axial slices of volumes: anterior up, patient's left on the right; as gray pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from PIL import Image

from crossmod.data.volumes import Affine, spacing_of

Plane = NDArray[Any]
"""One slice ``(P, L)``: rows run from front to back, columns from right to left."""

MAX_PIXELS = 320
"""Longer sides are scaled down."""


@dataclass(frozen=True)
class Upright:
    """An array turned so that its axes run to the patient's left, back and head.

    Attributes:
        data: ``(L, P, S)``, a view.
        spacing_mm: voxel size along these axes.
    """

    data: NDArray[Any]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, data: NDArray[Any], affine: Affine) -> Upright:
        """Turn ``(I, J, K)`` data whose affine maps voxels to RAS+ mm."""
        axes = orientations.io_orientation(affine)
        turn = orientations.ornt_transform(axes, orientations.axcodes2ornt("LPS"))
        spacing = np.zeros(3)
        spacing[turn[:, 0].astype(int)] = spacing_of(affine)
        turned = orientations.apply_orientation(data, turn)
        return cls(turned, (float(spacing[0]), float(spacing[1]), float(spacing[2])))

    def plane(self, level: int) -> Plane:
        """The axial slice at a level counted from the feet."""
        return np.asarray(self.data[:, :, level].T)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Height and width of a pixel."""
        return self.spacing_mm[1], self.spacing_mm[0]

    @property
    def levels(self) -> int:
        """How many slices there are."""
        return int(self.data.shape[2])

    def fullest_level(self) -> int:
        """The slice with most voxels set; the middle one if none is."""
        areas = np.count_nonzero(self.data, axis=(0, 1))
        return int(areas.argmax()) if areas.any() else self.levels // 2


def window(plane: Plane) -> tuple[float, float]:
    """The 1st and 99.5th percentile of a slice, to show it with."""
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def png_uri(image: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def png_of(plane: Plane, limits: tuple[float, float]) -> str:
    """A slice as a data URI; `limits` are the intensities that become black and white."""
    low, high = limits
    scaled = np.clip((np.nan_to_num(plane) - low) / (high - low), 0.0, 1.0)
    image = Image.fromarray((scaled * 255).astype(np.uint8))
    image.thumbnail((MAX_PIXELS, MAX_PIXELS))
    return png_uri(image)
