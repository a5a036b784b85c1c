"""Find the label maps of two folders that belong together, and compare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from crossmod.csv_files import write_csv
from crossmod.errors import DataError
from crossmod.intake import difference, load_labels
from crossmod.metrics import TOLERANCE_MM, Measures, score
from crossmod.preprocess import Grid

LABEL = "_Label"
"""How the names of CrossMoDA's label maps end."""

COLUMNS = ("case", "center", "class", *Measures._fields)
"""The columns of the file of outcomes."""


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
        prediction, reference = load_labels(self.prediction), load_labels(self.reference)
        grids = [Grid(one.labels.shape, one.affine) for one in (prediction, reference)]
        if fault := difference(*grids):
            raise DataError(
                f"lies elsewhere than its reference: {fault.told}",
                where=str(self.prediction),
                fix="resample the prediction to the grid of the reference, nearest neighbor",
            )
        try:
            scores = score(
                prediction.labels,
                reference.labels,
                reference.affine,
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
