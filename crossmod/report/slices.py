"""Axial slices as small inline pictures with outlines over them, in true aspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from crossmod.data.slices import Plane, png_of

CLOSE_UP_MM = 56.0
"""Side of the close-ups; the largest schwannomas measure about 45 mm."""

REFERENCE_COLOR = "#f4e04d"
"""Outlines drawn by people."""


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
    ).format(w=width, h=height, href=png_of(plane, limits), lines=lines)


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
