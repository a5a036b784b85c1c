"""Files of cases, and the manifest that lists them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from crossmod.data.displayed import Displayed
from crossmod.data.folds import held_out
from crossmod.data.nifti import read_affine, read_image, read_labels, write_nifti
from crossmod.data.volumes import FloatArray, LabelArray, Pair, Volume
from crossmod.errors import DataError


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
