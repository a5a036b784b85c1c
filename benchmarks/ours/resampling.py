"""Interpolation on another grid."""

from __future__ import annotations

from typing import Literal

import numpy as np

from crossmod.data.grids import Grid, resample
from racing.masks import volume
from racing.turns import Turns


def to_grid(
    turns: Turns,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    new_spacing_mm: tuple[float, ...],
    interpolation: Literal["linear", "cubic"],
) -> None:
    """A volume, as files hold it, on a grid of other voxels that begins at the same place."""
    data = volume(shape)
    sides = zip(shape, spacing_mm, new_spacing_mm, strict=True)
    grid = Grid(
        tuple(round(side * old / new) for side, old, new in sides),
        np.diag([*new_spacing_mm, 1.0]),
    )
    for _ in turns:
        resample(data, np.diag([*spacing_mm, 1.0]), grid, interpolation=interpolation)
