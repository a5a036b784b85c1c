"""Scores as tests write them down."""

from __future__ import annotations

from typing import NamedTuple

from crossmod.scores.metrics import Score


class Measured(NamedTuple):
    """The metrics of crossmod in the order of their columns."""

    dice: float
    assd_mm: float
    hd95_mm: float
    nsd: float
    volume_error: float
    volume_mm3: float


def scored(
    split: str, stage: str, case: str, center: str, structure: str, *numbers: float
) -> Score:
    """One score from its numbers."""
    return Score(split, stage, case, center, structure, Measured(*numbers)._asdict())
