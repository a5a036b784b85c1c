"""Arrays with geometry.

Axes are named I, J, K in the order of the NIfTI file. An affine maps voxel indices to RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmod.data.displayed import Displayed
from crossmod.data.overlap import BoolArray
from crossmod.errors import PluginError

FloatArray: TypeAlias = NDArray[np.float32]
"""Intensities or probabilities, float32."""

LabelArray: TypeAlias = NDArray[np.uint8]
"""Labels, uint8: 0 is background, others are those of `Cohort.classes`."""

Affine: TypeAlias = NDArray[np.float64]
"""``(4, 4)``, voxel -> RAS+ mm."""


@dataclass(frozen=True, eq=False)
class Volume(Displayed):
    """One image: float32 data ``(C, I, J, K)`` on a grid, read from disk when first used.

    Attributes:
        case: identifier, unique in its cohort.
        center: the hospital it comes from.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        read: returns the data ``(C, I, J, K)``.

    Example:
        >>> scan = Volume.of(np.ones((1, 4, 4, 2)), np.diag([0.6, 0.6, 1.5, 1]), case="ldn_1")
        >>> scan.grid, scan.spacing_mm
        ((4, 4, 2), (0.6, 0.6, 1.5))
        >>> float(scan.with_data(scan.data / 2).data.max())
        0.5
    """

    case: str
    center: str
    affine: Affine
    read: Callable[[], FloatArray] = field(repr=False)

    @classmethod
    def of(cls, data: FloatArray, affine: Affine, *, case: str, center: str = "") -> Volume:
        """Wrap data ``(C, I, J, K)`` that is already in memory.

        Raises:
            PluginError: the data or the affine have another shape.
        """
        if np.ndim(data) != 4 or np.shape(affine) != (4, 4):
            what = f"{case} has data of shape {np.shape(data)} and an affine {np.shape(affine)}"
            raise PluginError(what, allowed="data (C, I, J, K), C mostly 1, and an affine (4, 4)")
        return cls(case, center, np.asarray(affine, np.float64), lambda: data)

    @cached_property
    def data(self) -> FloatArray:
        """The image, float32 ``(C, I, J, K)``."""
        return np.asarray(self.read(), dtype=np.float32)

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of voxels ``(I, J, K)``."""
        return self.data.shape[1:]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K."""
        return spacing_of(self.affine)

    def with_data(self, data: FloatArray) -> Volume:
        """The same case and geometry with other data ``(C, I, J, K)``."""
        array = np.asarray(data, dtype=np.float32)
        return Volume.of(array, self.affine, case=self.case, center=self.center)


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its label map.

    Attributes:
        image: the image.
        labels: uint8 ``(I, J, K)`` on the grid of the image; 0 is background.
        patient: who it shows. Folds never separate pairs of one patient.
        weight: how much a segmenter should learn from it, above 0; others have 1.
        ignore: bool ``(I, J, K)``, true where a segmenter should learn nothing; None is nowhere.
    """

    image: Volume
    labels: LabelArray
    patient: str
    weight: float = 1.0
    ignore: BoolArray | None = None

    @property
    def case(self) -> str:
        """The case identifier of the image."""
        return self.image.case

    @property
    def center(self) -> str:
        """The hospital it comes from."""
        return self.image.center

    def with_data(self, data: FloatArray) -> Pair:
        """The same case with another image ``(C, I, J, K)`` on the same grid."""
        return replace(self, image=self.image.with_data(data))

    def copy_as(self, suffix: str, data: FloatArray) -> Pair:
        """A changed copy: same patient, labels and geometry, case ``{case}+{suffix}``."""
        changed = self.with_data(data)
        return replace(changed, image=replace(changed.image, case=f"{self.case}+{suffix}"))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a segmenter thinks of one image.

    Attributes:
        image: the image it was made from.
        probabilities: float32 ``(1 + classes, I, J, K)``, background first, summing to 1.
        read_folds: returns `folds`; None where nobody asked for them.

    Example:
        >>> scan = Volume.of(np.zeros((1, 1, 1, 2)), np.eye(4), case="ldn_1")
        >>> Prediction(scan, np.array([[0.9, 0.3], [0.1, 0.7]])[:, None, None]).labels.tolist()
        [[[0, 1]]]
    """

    image: Volume
    probabilities: FloatArray
    read_folds: Callable[[], LabelArray] | None = field(default=None, repr=False)

    @classmethod
    def of_labels(cls, image: Volume, labels: LabelArray, classes: Mapping[str, int]) -> Prediction:
        """What a program thinks that gives a label map: it is certain of every voxel.

        Args:
            image: the image it was made from.
            labels: integers ``(I, J, K)`` on its grid; 0 is background.
            classes: class name -> label, those of `Context.classes`.

        Raises:
            PluginError: the labels have another shape, or values that are of no class.
        """
        values = sorted({0, *classes.values()})
        shares = np.stack([np.equal(labels, value) for value in values]).astype(np.float32)
        if shares.shape[1:] != image.grid or not shares.any(axis=0).all():
            what = f"gives {image.case} labels {np.unique(labels).tolist()[:9]}, {np.shape(labels)}"
            raise PluginError(what, allowed=f"{values}, {image.grid}")
        return cls(image, shares)

    @property
    def case(self) -> str:
        """The case identifier of the image."""
        return self.image.case

    @cached_property
    def labels(self) -> LabelArray:
        """The most probable label, uint8 ``(I, J, K)``; label n is class channel n."""
        return np.asarray(np.argmax(self.probabilities, axis=0), np.uint8)

    @cached_property
    def folds(self) -> LabelArray:
        """The most probable label by each fold, uint8 ``(F, I, J, K)``, read when first used.

        With a single fold these are its labels of the image, of its mirror image and of shifted
        ones. F is 0 where they were not kept, see `PseudoLabeler.reads_folds`.
        """
        if self.read_folds is None:
            return np.zeros((0, *self.probabilities.shape[1:]), np.uint8)
        return self.read_folds()

    def pair(self, labels: LabelArray) -> Pair:
        """The image with a label map ``(I, J, K)``; the core puts the patient in for the case."""
        return Pair(self.image, labels, patient=self.case)


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Voxel size in mm along I, J, K: the column norms of the affine."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)
