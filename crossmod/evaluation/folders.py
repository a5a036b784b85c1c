"""Find the label maps of two folders that belong together, and compare them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.csv_files import write_csv
from crossmod.data import Affine
from crossmod.errors import DataError
from crossmod.metrics import TOLERANCE_MM, Measures, score

LABEL = "_Label"
"""How the names of CrossMoDA's label maps end."""

GRID_TOLERANCE_MM = 1e-3
"""Entries of two affines that differ by less are one grid."""

COLUMNS = ("case", "center", "class", *Measures._fields)
"""The columns of the file of outcomes."""


UNREADABLE = (OSError, EOFError, ValueError, zlib.error)
"""What reading a damaged file raises, apart from errors of nibabel's own."""


@dataclass(frozen=True)
class Outcome:
    """How well one structure of one case was outlined.

    Attributes:
        case: case identifier.
        center: the hospital it comes from, or "".
        structure: class name.
        measures: the metrics.
    """

    case: str
    center: str
    structure: str
    measures: Measures


@dataclass(frozen=True)
class LabelPair:
    """The two label maps of one case.

    Attributes:
        case: case identifier.
        center: the hospital it comes from, or "".
        prediction: file that says what was outlined.
        reference: file that says what should have been.
    """

    case: str
    center: str
    prediction: Path
    reference: Path

    def outcomes(
        self,
        classes: Mapping[str, int],
        *,
        tolerance_mm: float = TOLERANCE_MM,
        challenge: bool = False,
    ) -> list[Outcome]:
        """Read and compare both, class by class; arguments as for `crossmod.metrics.score`.

        Raises:
            DataError: a file is no label map, or the two are not on one grid.
        """
        prediction, affine = _read(self.prediction)
        reference, expected = _read(self.reference)
        _check_grids(self.case, (prediction.shape, affine), (reference.shape, expected))
        try:
            scores = score(
                prediction,
                reference,
                expected,
                classes,
                tolerance_mm=tolerance_mm,
                challenge=challenge,
            )
        except DataError as error:
            raise DataError(error.what, where=self.case, fix=error.fix) from error
        return [Outcome(self.case, self.center, *item) for item in scores.items()]


def label_pairs(predictions: Path, references: Path, centers: Mapping[str, str]) -> list[LabelPair]:
    """The label maps that two folders hold of the same cases, sorted by case.

    The case is the name of a file without ``.nii``, ``.nii.gz`` and an ending ``_Label``. In a
    folder with names ending in ``_Label`` other files are no label maps: CrossMoDA keeps scans and
    label maps together.

    Args:
        predictions: folder of predictions.
        references: folder of references.
        centers: center -> pattern of case ids; the first match counts.

    Raises:
        DataError: a folder holds no label map or two of one case, or a case is in only one folder.
    """
    found, expected = _label_maps(predictions), _label_maps(references)
    _check_same_cases(predictions, set(found), references, set(expected))
    return [
        LabelPair(case, _center(case, centers), found[case], expected[case])
        for case in sorted(expected)
    ]


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write a CSV with the columns `COLUMNS`; NaN becomes an empty cell."""
    rows = ((item.case, item.center, item.structure, *item.measures) for item in outcomes)
    write_csv(path, COLUMNS, rows)


def _center(case: str, centers: Mapping[str, str]) -> str:
    return next((name for name, pattern in centers.items() if fnmatch(case, pattern)), "")


def _label_maps(folder: Path) -> dict[str, Path]:
    """Case -> label map."""
    stems = {
        path: path.name.removesuffix(".gz").removesuffix(".nii")
        for path in sorted(folder.iterdir())
        if path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")
    }
    if any(stem.endswith(LABEL) for stem in stems.values()):
        stems = {path: stem for path, stem in stems.items() if stem.endswith(LABEL)}
    found: dict[str, Path] = {}
    for path, stem in stems.items():
        case = stem.removesuffix(LABEL)
        if case in found:
            raise DataError(
                f"has two label maps: {found[case].name} and {path.name}",
                where=str(folder / case),
                fix="remove one of them",
            )
        found[case] = path
    if not found:
        raise DataError("holds no .nii or .nii.gz file", where=str(folder))
    return found


def _check_same_cases(
    predictions: Path, found: set[str], references: Path, expected: set[str]
) -> None:
    problems = [
        f"no {kind} in {folder} of: {', '.join(sorted(cases))}"
        for cases, kind, folder in (
            (expected - found, "prediction", predictions),
            (found - expected, "reference", references),
        )
        if cases
    ]
    if problems:
        raise DataError(
            "\n".join(problems),
            fix="both folders need the same cases; a case is the name of its file without"
            f" .nii.gz and {LABEL}",
        )


def _read(path: Path) -> tuple[NDArray[np.integer[Any]], Affine]:
    """Labels ``(I, J, K)`` and affine of a file; `read_labels` would round and wrap values."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
        data = np.asarray(image.dataobj)
    except (*UNREADABLE, ImageFileError, HeaderDataError) as error:
        raise DataError(f"cannot be read as NIfTI: {error}", where=str(path)) from error
    if data.ndim != 3:
        raise DataError(f"has shape {data.shape}", where=str(path), allowed="three dimensions")
    if data.dtype.kind not in "iu":
        with np.errstate(invalid="ignore"):
            whole = data.astype(np.int32)
        if not np.array_equal(whole, data):
            raise DataError(
                "holds values that are not whole numbers, so it is no label map", where=str(path)
            )
        data = whole
    return data, np.asarray(image.affine, dtype=np.float64)


def _check_grids(
    case: str,
    prediction: tuple[tuple[int, ...], Affine],
    reference: tuple[tuple[int, ...], Affine],
) -> None:
    fix = "resample the prediction to the grid of the reference, nearest neighbor"
    if prediction[0] != reference[0]:
        raise DataError(
            f"prediction has {prediction[0]} voxels, reference {reference[0]}", where=case, fix=fix
        )
    gap = float(np.abs(prediction[1] - reference[1]).max())
    if not gap <= GRID_TOLERANCE_MM:
        raise DataError(
            f"affines of prediction and reference differ by up to {gap:.3g} mm",
            where=case,
            allowed=f"{GRID_TOLERANCE_MM:g} mm",
            fix=fix,
        )
