"""Axial slices as small inline pictures: anterior up, patient's left on the right, true aspect."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from nibabel import orientations
from numpy.typing import NDArray
from PIL import Image

from crossmod.data.volumes import Affine, spacing_of

Plane = NDArray[Any]
"""One slice ``(P, L)``: rows run from front to back, columns from right to left."""

MAX_PIXELS = 320
"""Longer sides are scaled down."""

CLOSE_UP_MM = 56.0
"""Side of the close-ups; the largest schwannomas measure about 45 mm."""

REFERENCE_COLOR = "#f4e04d"
"""Outlines drawn by people."""


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


@dataclass(frozen=True)
class Outline:
    """A mask ``(P, L)`` to draw as a line."""

    mask: Plane
    color: str
    dashed: bool = False


@dataclass(frozen=True)
class Tile:
    """A picture with a line of text below."""

    svg: Markup
    label: str


def window(plane: Plane) -> tuple[float, float]:
    """The 1st and 99.5th percentile of a slice, to show it with."""
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def box_around(mask: Plane, pixel_mm: tuple[float, float], side_mm: float) -> tuple[slice, slice]:
    """A square about a mask, or about the middle if it is empty, that stays inside the slice."""
    spans = []
    for axis in range(2):
        size = mask.shape[axis]
        used = np.flatnonzero(mask.any(axis=1 - axis))
        middle = (used[0] + used[-1]) / 2 if used.size else (size - 1) / 2
        length = min(size, round(side_mm / pixel_mm[axis]))
        start = int(np.clip(round(middle - length / 2), 0, size - length))
        spans.append(slice(start, start + length))
    return spans[0], spans[1]


def picture(
    plane: Plane,
    pixel_mm: tuple[float, float],
    limits: tuple[float, float] = (0.0, 1.0),
    outlines: Sequence[Outline] = (),
) -> Markup:
    """Inline SVG of a slice and outlines over it, in mm.

    Args:
        plane: intensities ``(P, L)``.
        pixel_mm: height and width of a pixel.
        limits: intensities that become black and white.
        outlines: masks on the same grid.
    """
    height, width = plane.shape[0] * pixel_mm[0], plane.shape[1] * pixel_mm[1]
    lines = Markup("").join(_line(outline, pixel_mm) for outline in outlines)
    return Markup(
        '<svg class="slice" viewBox="0 0 {w:.5g} {h:.5g}" role="img">'
        '<image href="{href}" width="{w:.5g}" height="{h:.5g}" preserveAspectRatio="none"/>'
        "{lines}</svg>"
    ).format(w=width, h=height, href=_png(plane, limits), lines=lines)


def png_uri(image: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _png(plane: Plane, limits: tuple[float, float]) -> str:
    low, high = limits
    scaled = np.clip((np.nan_to_num(plane) - low) / (high - low), 0.0, 1.0)
    image = Image.fromarray((scaled * 255).astype(np.uint8))
    image.thumbnail((MAX_PIXELS, MAX_PIXELS))
    return png_uri(image)


def _line(outline: Outline, pixel_mm: tuple[float, float]) -> Markup:
    from contourpy import contour_generator

    if not outline.mask.any():
        return Markup("")
    # The rim closes lines at the border; the shift puts pixel centers at half pixels.
    padded = np.pad(outline.mask.astype(np.float32), 1)
    segments = contour_generator(z=padded).lines(0.5)
    scale = np.array([pixel_mm[1], pixel_mm[0]])
    path = "".join(
        "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in (np.asarray(part) - 0.5) * scale)
        for part in segments
    )
    dashes = Markup(' stroke-dasharray="4 3"') if outline.dashed else ""
    return Markup('<path d="{}" stroke="{}"{}/>').format(path, outline.color, dashes)
