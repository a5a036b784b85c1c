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

from crossmod.data.nifti import read_affine, read_image, read_labels, write_nifti
from crossmod.errors import DataError

FloatArray: TypeAlias = NDArray[np.float32]
"""Intensities or probabilities, float32."""

LabelArray: TypeAlias = NDArray[np.uint8]
"""Labels, uint8: 0 is background, others are those of `Cohort.classes`."""

Affine: TypeAlias = NDArray[np.float64]
"""``(4, 4)``, voxel -> RAS+ mm."""


@dataclass(frozen=True, eq=False)
class Volume:
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
        """Wrap data ``(C, I, J, K)`` that is already in memory."""
        return cls(case, center, affine, lambda: data)

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
        return replace(self, read=lambda: array)


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its label map.

    Attributes:
        image: the image.
        labels: uint8 ``(I, J, K)`` on the grid of the image; 0 is background.
        patient: who it shows. Folds never separate pairs of one patient.
    """

    image: Volume
    labels: LabelArray
    patient: str

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

    Example:
        >>> scan = Volume.of(np.zeros((1, 1, 1, 2)), np.eye(4), case="ldn_1")
        >>> Prediction(scan, np.array([[0.9, 0.3], [0.1, 0.7]])[:, None, None]).labels.tolist()
        [[[0, 1]]]
    """

    image: Volume
    probabilities: FloatArray

    @property
    def case(self) -> str:
        """The case identifier of the image."""
        return self.image.case

    @cached_property
    def labels(self) -> LabelArray:
        """The most probable label, uint8 ``(I, J, K)``; label n is class channel n."""
        winner: LabelArray = np.argmax(self.probabilities, axis=0).astype(np.uint8)
        return winner

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
    """

    case: str
    patient: str
    center: str
    image: Path
    labels: Path | None = None

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
        return Pair(self.volume(), read_labels(self.labels), self.patient)


@dataclass(frozen=True)
class Cohort:
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
        if count == 1:
            return [(self, replace(self, cases=()))]
        strata = self._strata(origins or {})
        patients = sum(map(len, strata))
        if patients < count:
            raise DataError(
                f"{patients} patients cannot be split into {count} folds",
                fix="use fewer folds or more cases",
            )
        rng = np.random.default_rng([seed, count])
        order = [stratum[p] for stratum in strata for p in rng.permutation(len(stratum))]
        return [self._split(set(order[fold::count])) for fold in range(count)]

    def _split(self, held: set[str]) -> tuple[Cohort, Cohort]:
        """The cases of all patients but some, and of these."""
        rest = self.only(lambda case: case.patient not in held)
        return rest, self.only(lambda case: case.patient in held)

    def _strata(self, origins: Mapping[str, int]) -> list[list[str]]:
        """The patients of every origin and center, each in the stratum of the first case."""
        first = {case.patient: case.center for case in reversed(self.cases)}
        stratum_of = {patient: (origins.get(patient, 0), first[patient]) for patient in first}
        return [
            sorted(patient for patient in first if stratum_of[patient] == stratum)
            for stratum in sorted(set(stratum_of.values()))
        ]

    def save(self, folder: Path) -> None:
        """Write the manifest; files inside ``folder`` are noted relative to it."""
        rows = []
        for case in self.cases:
            row = asdict(case)
            for key in ("image", "labels"):
                row[key] = str(row[key].relative_to(folder)) if row[key] else None
            rows.append(row)
        text = json.dumps({"classes": dict(self.classes), "cases": rows}, indent=1)
        (folder / self.MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Cohort:
        """Read the manifest of a folder."""
        content = json.loads((folder / cls.MANIFEST).read_text(encoding="utf-8"))
        cases = []
        for row in content["cases"]:
            image, labels = (folder / row[key] if row[key] else None for key in ("image", "labels"))
            cases.append(Case(**row | {"image": image, "labels": labels}))
        return cls(tuple(cases), content["classes"])


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
        name = f"{image.case}.nii"
        path = self.folder / "images" / name
        write_nifti(path, image.data[0], image.affine)
        labels_path = None
        if labels is not None:
            labels_path = self.folder / "labels" / name
            write_nifti(labels_path, labels, image.affine)
        return Case(image.case, patient or image.case, image.center, path, labels_path)

    def add_pair(self, pair: Pair) -> None:
        """Write one image and its label map."""
        self.add(pair.image, patient=pair.patient, labels=pair.labels)

    def close(self) -> Cohort:
        """Write the manifest and return the cohort."""
        cohort = Cohort(tuple(self.cases), self.classes)
        cohort.save(self.folder)
        return cohort
