"""Arrays with geometry (Volume, Pair, Prediction) and files with a manifest (Case, Cohort).

Axes are named I, J, K in the order of the NIfTI file. An affine maps voxel indices to RAS+ mm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmod.data.displayed import Displayed
from crossmod.data.folds import held_out
from crossmod.data.nifti import read_affine, read_image, read_labels, write_nifti
from crossmod.data.overlap import BoolArray
from crossmod.errors import DataError, PluginError

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


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        case: identifier, unique in its cohort.
        patient: who it shows; an augmented copy keeps the patient of its original.
        center: the hospital it comes from.
        image: image file.
        labels: label map file, or None where nobody labeled it.
        weight: how much a segmenter should learn from it, see `Pair`.
        ignore: file of a mask, 1 where a segmenter should learn nothing; None is nowhere.
    """

    case: str
    patient: str
    center: str
    image: Path
    labels: Path | None = None
    weight: float = 1.0
    ignore: Path | None = None

    def volume(self) -> Volume:
        """The image, read when first used."""
        affine = read_affine(self.image)
        return Volume(self.case, self.center, affine, lambda: read_image(self.image))

    def pair(self) -> Pair:
        """Image and label map.

        Raises:
            DataError: the case has no labels.
        """
        if self.labels is None:
            raise DataError("has no label map", where=self.case)
        ignore = None if self.ignore is None else read_labels(self.ignore).astype(bool)
        return Pair(self.volume(), read_labels(self.labels), self.patient, self.weight, ignore)


FILES = ("image", "labels", "ignore")
"""The fields of a case that are files."""

USUAL = {"weight": 1.0, "ignore": None}
"""What a manifest does not mention."""


@dataclass(frozen=True)
class Cohort(Displayed):
    """Cases in a fixed order, with the classes their label maps use (name -> label)."""

    cases: tuple[Case, ...]
    classes: Mapping[str, int]

    MANIFEST = "cohort.json"

    def __len__(self) -> int:
        return len(self.cases)

    def volumes(self) -> Iterator[Volume]:
        """The images, one at a time."""
        return (case.volume() for case in self.cases)

    def pairs(self) -> Iterator[Pair]:
        """Images with label maps, one at a time."""
        return (case.pair() for case in self.cases)

    def only(self, keep: Callable[[Case], bool]) -> Cohort:
        """The cases that pass a test."""
        return replace(self, cases=tuple(case for case in self.cases if keep(case)))

    def __add__(self, other: Cohort) -> Cohort:
        return replace(self, cases=self.cases + other.cases)

    def folds(
        self, count: int, seed: int, origins: Mapping[str, int] | None = None
    ) -> list[tuple[Cohort, Cohort]]:
        """Split into ``count`` (training, validation) cohorts by patient.

        Every patient is in exactly one validation cohort, with all copies. Each of these cohorts
        holds a share of the patients of every center and origin, the same to one patient. One fold
        means training on everything with an empty validation cohort.

        Args:
            count: number of folds.
            seed: decides which patients they hold.
            origins: patient -> number of the data set that the patient comes from. The folds of one
                data set stay the same when others with higher numbers are added.

        Raises:
            DataError: fewer patients than folds.
        """
        parts = held_out(self.cases, count, seed, origins or {}) if count > 1 else [set()]
        return [self._split(one) for one in parts]

    def _split(self, held: set[str]) -> tuple[Cohort, Cohort]:
        """The cases of all patients but some, and of these."""
        rest = self.only(lambda case: case.patient not in held)
        return rest, self.only(lambda case: case.patient in held)

    def save(self, folder: Path) -> None:
        """Write the manifest; files inside ``folder`` are noted relative to it."""
        rows = []
        for case in self.cases:
            row = asdict(case)
            row.update({k: str(row[k].relative_to(folder)) if row[k] else None for k in FILES})
            rows.append({key: row[key] for key in row if row[key] != USUAL.get(key, ...)})
        text = json.dumps({"classes": dict(self.classes), "cases": rows}, indent=1)
        (folder / self.MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Cohort:
        """Read the manifest of a folder."""
        content = json.loads((folder / cls.MANIFEST).read_text(encoding="utf-8"))
        for row in content["cases"]:
            row.update({key: folder / row[key] for key in FILES if row.get(key)})
        return cls(tuple(Case(**row) for row in content["cases"]), content["classes"])


class CohortWriter:
    """Writes volumes and pairs into a folder as they come, then the manifest."""

    def __init__(self, folder: Path, classes: Mapping[str, int]) -> None:
        self.folder = folder
        self.classes = classes
        self.cases: list[Case] = []

    def add(self, image: Volume, *, patient: str = "", labels: LabelArray | None = None) -> None:
        """Write one image ``(1, I, J, K)`` and, where given, its label map ``(I, J, K)``."""
        self.cases.append(self.write(image, patient=patient, labels=labels))

    def write(self, image: Volume, *, patient: str = "", labels: LabelArray | None = None) -> Case:
        """The same, in any order and in several threads; the caller adds the case to `cases`."""
        path = self._file("images", image, image.data[0])
        labels_path = None if labels is None else self._file("labels", image, labels)
        return Case(image.case, patient or image.case, image.center, path, labels_path)

    def add_pair(self, pair: Pair) -> None:
        """Write one image, its label map and, where it has one, its mask."""
        case = self.write(pair.image, patient=pair.patient, labels=pair.labels)
        ignore = pair.ignore
        mask = None if ignore is None else self._file("ignore", pair.image, ignore.astype(np.uint8))
        self.cases.append(replace(case, ignore=mask, weight=float(pair.weight)))

    def _file(self, folder: str, image: Volume, values: FloatArray | LabelArray) -> Path:
        path = self.folder / folder / f"{image.case}.nii"
        write_nifti(path, values, image.affine)
        return path

    def close(self) -> Cohort:
        """Write the manifest and return the cohort."""
        cohort = Cohort(tuple(self.cases), self.classes)
        cohort.save(self.folder)
        return cohort
