"""MedPy: Dice and average symmetric surface distance."""

from __future__ import annotations

from medpy.metric.binary import assd, dc

from racing.masks import masks
from racing.turns import Turns


def dice_and_assd(turns: Turns, shape: tuple[int, ...], radius: float) -> None:
    """Two metrics of two masks."""
    (found, truth), spacing_mm = masks(shape, radius)
    for _ in turns:
        dc(found, truth)
        assd(found, truth, voxelspacing=spacing_mm)
