"""The 3D U-Net: a training step, a window, patches."""

from __future__ import annotations

from itertools import count, repeat
from typing import Any
from unittest import mock

import numpy as np
from crossmod_unet3d import UNet3D, UNet3DOptions

from crossmod import Cohort, Volume
from ours.scene import CLASSES, SPACING_MM, cohort, context, image, marking, options_of
from racing.turns import Turns

FOREVER = 10**6
"""Steps of a training that is not meant to end."""

Shape = tuple[int, int, int]


def step(
    turns: Turns,
    threads: int,
    shape: Shape,
    recipe: str = "",
    spacing_mm: tuple[float, ...] = SPACING_MM,
    **options: Any,
) -> None:
    """A training step, patches made in the background included.

    Args:
        turns: one for each step.
        threads: cores to use.
        shape: voxels of a training image.
        recipe: whose options to use; by default those of nnU-Net.
        spacing_mm: size of a voxel.
        options: that differ.
    """
    changes = {"iterations": FOREVER, **options}
    chosen = options_of(recipe, "segment", UNet3DOptions, **changes)
    cases = cohort("train", shape, 4, spacing_mm)
    ctx = context(turns, threads, lanes=2, progress=marking(turns))
    UNet3D(chosen).fit(cases, Cohort((), CLASSES), ctx)


def window(turns: Turns, threads: int, patch: Shape, **options: Any) -> None:
    """Class probabilities of an image as large as a patch."""
    chosen = UNet3DOptions(patch=patch, iterations=1, mirror_predictions=False, **options)
    ctx = context(turns, threads)
    stage = UNet3D(chosen)
    state = stage.fit(cohort("train", patch, 1), Cohort((), CLASSES), ctx)
    scan = Volume.of(image(patch)[np.newaxis], np.diag([*SPACING_MM, 1.0]), case="scan")
    results = stage.predict(repeat(scan), state, ctx)
    for _ in turns:
        next(results)


def patches(turns: Turns, shape: Shape, patch: Shape, **options: Any) -> None:
    """A batch of patches, cut and augmented, in one thread."""
    from crossmod_unet3d.patches import PatchSource

    def race(source: PatchSource, *unused: object) -> None:
        for number, _ in zip(count(), turns, strict=False):
            source.batch(number)

    with mock.patch.object(PatchSource, "ahead", race):  # in place of the training
        step(turns, 1, shape, patch=patch, **options)
