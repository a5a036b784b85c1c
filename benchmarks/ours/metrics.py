"""Scores of one structure."""

from __future__ import annotations

import numpy as np

from crossmod.scores.metrics import score
from racing.masks import masks
from racing.turns import Turns


def dice_and_assd(turns: Turns, shape: tuple[int, ...], radius: float) -> None:
    """All metrics of two label maps, Dice and average surface distance among them."""
    (found, truth), spacing_mm = masks(shape, radius)
    affine = np.diag([*spacing_mm, 1.0])
    maps = found.astype(np.uint8), truth.astype(np.uint8)
    for _ in turns:
        score(*maps, affine, {"tumor": 1})
