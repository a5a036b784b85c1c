"""Volumes scrolled through from the feet to the head, side by side, for notebooks and slides."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from crossmod.data.slices import Upright, window
from crossmod.data.volumes import Volume
from crossmod.errors import DataError

ENDING = ".gif"

SHOWN_PX = 200
"""The height in a notebook."""

MOST_PX = 160
"""Higher slices are scaled down, so that files stay small."""

MOST_FRAMES = 32
FRAME_MS = 120
GAP_PX = 4
GRAYS = 32
"""Fewer than 256 make a smaller file, and nobody sees it."""


@dataclass(frozen=True)
class Animation:
    """An animated GIF, which a notebook shows.

    Attributes:
        gif: the file's content.
        cases: whose volumes it shows, from left to right.
    """

    gif: bytes = field(repr=False)
    cases: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the GIF.

        Args:
            path: a name that ends with .gif.

        Raises:
            DataError: the name ends otherwise.
            OSError: it cannot be written.
        """
        if Path(path).suffix.lower() != ENDING:
            raise DataError(
                "an animation is written as a GIF", where=str(path), allowed=f"names with {ENDING}"
            )
        Path(path).write_bytes(self.gif)

    def _repr_html_(self) -> str:
        source = "data:image/gif;base64," + base64.b64encode(self.gif).decode("ascii")
        text = Markup('<figure style="margin:0"><img src="{}" height="{}" alt="slices">'
                      "<figcaption>{}</figcaption></figure>")  # fmt: skip
        return str(text.format(source, SHOWN_PX, ", ".join(dict.fromkeys(self.cases))))


def animate(*volumes: Volume) -> Animation:
    """Scroll through axial slices of volumes, side by side, each with its own contrast.

    Anterior is up, the patient's left is on the right. Volumes of different depths are shown from
    their lowest to their highest slice all the same.

    Args:
        volumes: one or more; of several channels the first is shown.

    Raises:
        DataError: there is none.

    Example:
        >>> scan = Volume.of(np.random.rand(1, 8, 8, 5), np.diag([1, 1, 2, 1]), case="a")
        >>> animation = animate(scan, scan)
        >>> animation.gif[:6], animation.cases
        (b'GIF89a', ('a', 'a'))
    """
    if not volumes:
        raise DataError("nothing to animate", fix="pass one or more volumes")
    upright = [Upright.of(volume.data[0], volume.affine) for volume in volumes]
    limits = [window(one.data) for one in upright]
    height = min(MOST_PX, max(one.data.shape[1] for one in upright))
    frames = min(MOST_FRAMES, max(one.levels for one in upright))
    shown = [
        _frame(
            [
                _panel(one, n / max(1, frames - 1), span, height)
                for one, span in zip(upright, limits, strict=True)
            ]
        )
        for n in range(frames)
    ]
    buffer = io.BytesIO()
    first, *others = shown
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=True
    )
    return Animation(buffer.getvalue(), tuple(volume.case for volume in volumes))


def _panel(
    upright: Upright, level: float, limits: tuple[float, float], height: int
) -> NDArray[np.uint8]:
    """The slice at a level (0 feet, 1 head), in true aspect, scaled to a height in pixels."""
    plane = upright.plane(round(level * (upright.levels - 1)))
    low, high = limits
    gray = np.clip((np.nan_to_num(plane) - low) / (high - low), 0.0, 1.0)
    step = 255 // (GRAYS - 1)
    image = Image.fromarray((np.rint(gray * (GRAYS - 1)) * step).astype(np.uint8))
    tall, wide = (n * mm for n, mm in zip(plane.shape, upright.pixel_mm, strict=True))
    size = max(1, round(height * wide / tall)), height
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))


def _frame(panels: list[NDArray[np.uint8]]) -> Image.Image:
    gap: NDArray[Any] = np.full((len(panels[0]), GAP_PX), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    return Image.fromarray(np.hstack(parts))
