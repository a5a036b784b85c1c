"""SimpleITK: files and interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

from racing.masks import SPACING_MM, volume
from racing.turns import Turns

ORDERS = {"linear": SimpleITK.sitkLinear, "cubic": SimpleITK.sitkBSpline}


def write(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Write an image that SimpleITK holds; compressed, where the ending says so."""
    image, path = _image(volume(shape), SPACING_MM), Path.cwd() / f"scan{ending}"
    for _ in turns:
        SimpleITK.WriteImage(image, str(path), ending.endswith(".gz"))


def read(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Read a file into an array."""
    path = Path.cwd() / f"scan{ending}"
    SimpleITK.WriteImage(_image(volume(shape), SPACING_MM), str(path), ending.endswith(".gz"))
    for _ in turns:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def to_grid(
    turns: Turns,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    new_spacing_mm: tuple[float, ...],
    interpolation: str,
) -> None:
    """An array on a grid of other voxels, as an array."""
    data = volume(shape)
    sides = zip(shape, spacing_mm, new_spacing_mm, strict=True)
    grid = {
        "size": [round(side * old / new) for side, old, new in sides],
        "outputSpacing": list(new_spacing_mm),
        "interpolator": ORDERS[interpolation],
    }
    for _ in turns:
        found = SimpleITK.Resample(_image(data, spacing_mm), **grid)
        SimpleITK.GetArrayFromImage(found)


def _image(data: np.ndarray, spacing_mm: tuple[float, ...]) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(data.T)
    image.SetSpacing(list(spacing_mm))
    return image
