"""CycleGAN: a training step, a slice."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
from crossmod_cyclegan import CycleGAN, CycleGANOptions

from crossmod import Volume
from ours.scene import SPACING_MM, cohort, context, image, marking, options_of
from racing.turns import Turns

FOREVER = 10**6
"""Steps of a training that is not meant to end."""

SLICES = 4
"""Slices of an image."""


def step(
    turns: Turns, threads: int, sides: tuple[int, int], recipe: str = "", **options: Any
) -> None:
    """A training step.

    Args:
        turns: one for each step.
        threads: cores to use.
        sides: pixels of a slice.
        recipe: whose options to use; by default those of the authors.
        options: that differ.
    """
    changes = {"iterations": FOREVER, **options}
    chosen = options_of(recipe, "translate.gan", CycleGANOptions, **changes)
    first, second = sides
    source, target = (cohort(name, (first, second, SLICES), 2) for name in ("source", "target"))
    ctx = context(turns, threads, lanes=2, progress=marking(turns))
    CycleGAN(chosen).fit(source, target, ctx)


def translate(turns: Turns, threads: int, sides: tuple[int, int], **options: Any) -> None:
    """A slice of an image that is translated."""
    shape = (sides[0], sides[1], SLICES)
    stage = CycleGAN(CycleGANOptions(iterations=1, **options))
    ctx = context(turns, threads)
    state = stage.fit(cohort("source", shape, 1), cohort("target", shape, 1), ctx)
    scan = Volume.of(image(shape)[np.newaxis], np.diag([*SPACING_MM, 1.0]), case="scan")
    results, turns.pieces = stage.translate(repeat(scan), state, ctx), SLICES
    for _ in turns:
        next(results)
