"""Small random cohorts to try a stage on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.data.crossmoda import DEFAULT_CENTERS, DEFAULT_CLASSES
from crossmod.data.volumes import LabelArray, Volume

CLASSES = dict(DEFAULT_CLASSES)
"""The classes of `small_cohort`: class name -> label."""

SHAPE = (28, 32, 12)
"""Voxels of its images, (I, J, K)."""

SPACING_MM = (1.5, 1.2, 2.0)
"""Voxel size along I, J, K."""

Shape = tuple[int, int, int]

BALLS = (((14, 16, 6), 4.0), ((5, 6, 6), 1.5), ((22, 24, 6), 2.0), ((22, 6, 6), 2.0))
"""Center in an image of shape `SHAPE`, and radius in voxels, of each structure; the first one is
bright."""


@dataclass(frozen=True)
class Trial:
    """What a stage is tried on.

    Attributes:
        shapes: shape of each labeled image; unlabeled images have the same in another order.
        classes: class name -> label, in the order of the labels.
        balls: label of each structure; the first one is bright.
        folds: number of folds that a segmenter is trained in.
        incomplete: whether the last labeled image lacks the first structure.
    """

    shapes: tuple[Shape, ...] = (SHAPE,) * 3
    classes: Mapping[str, int] = field(default_factory=lambda: CLASSES)
    balls: tuple[int, ...] = (1, 2)
    folds: int = 3
    incomplete: bool = False

    def labeled(self, folder: Path) -> Cohort:
        """Write the labeled cohort."""
        return _written(folder, self, 0, labeled=True)

    def target(self, folder: Path) -> Cohort:
        """Write the unlabeled cohort. Where shapes differ, it has one image less."""
        shapes = self.shapes[:0:-1] if len(set(self.shapes)) > 1 else self.shapes
        return _written(folder, Trial(shapes, self.classes, self.balls), 1, labeled=False)

    def structures(self, labels: LabelArray) -> LabelArray:
        """The number of the structure that each label stands for, ``(I, J, K)``."""
        numbers = np.zeros(256, np.uint8)
        numbers[list(self.balls)] = range(1, 1 + len(self.balls))
        found: LabelArray = numbers[labels]
        return found


def small_cohort(folder: Path, *, labeled: bool, cases: int = 3, seed: int = 0) -> Cohort:
    """Write smooth random images ``(28, 32, 12)`` in [0, 1] with a bright labeled ball.

    Args:
        folder: an empty folder to write into.
        labeled: whether the cohort has label maps, with a bright ball of the first class and a
            smaller one, as dark as what is around it, of the second.
        cases: number of images, ``case-0`` and so on; their centers alternate.
        seed: another seed gives other images.
    """
    return _written(folder, Trial((SHAPE,) * cases), seed, labeled=labeled)


def _written(folder: Path, trial: Trial, seed: int, *, labeled: bool) -> Cohort:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    writer = CohortWriter(folder, trial.classes)
    for number, shape in enumerate(trial.shapes):
        noise = ndimage.gaussian_filter(rng.random(shape), 1.5)
        labels = _labels(shape, trial.balls)
        if trial.incomplete and number == len(trial.shapes) - 1:
            labels[labels == trial.balls[0]] = 0
        image = np.clip(noise + 0.4 * (labels == trial.balls[0]), 0, 1).astype(np.float32)
        affine = np.diag([*SPACING_MM, 1.0])
        affine[:3, 3] = rng.normal(size=3)
        center = list(DEFAULT_CENTERS)[number % 2]
        volume = Volume.of(image[np.newaxis], affine, case=f"case-{number}", center=center)
        writer.add(volume, labels=labels if labeled else None)
    return writer.close()


def _labels(shape: Shape, balls: Sequence[int]) -> LabelArray:
    """A label map with a ball of each label, at the same place in relation to the shape."""
    labels: LabelArray = np.zeros(shape, np.uint8)
    for label, (center, radius) in zip(balls, BALLS, strict=False):
        middle = [c * side // whole for c, side, whole in zip(center, shape, SHAPE, strict=True)]
        axes = zip(np.indices(shape), middle, strict=True)
        labels[sum((axis - c) ** 2 for axis, c in axes) <= radius**2] = label
    return labels
