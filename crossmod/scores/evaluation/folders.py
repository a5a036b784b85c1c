"""Find the label maps of two folders that belong together, and compare them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from crossmod.data.classes import Classes
from crossmod.data.crossmoda import LABEL_ENDING
from crossmod.data.folder import ENDINGS, ending_of, stem_of
from crossmod.data.grids import Grid
from crossmod.data.volumes import LabelArray
from crossmod.errors import DataError, reading
from crossmod.files.patterns import nfc
from crossmod.intake import FileFault, LabelMap, difference, load_labels, on_grid
from crossmod.scores.metrics import Score, score
from crossmod.scores.table import TOLERANCE_MM


@dataclass(frozen=True)
class Compared:
    """The result of comparing the two label maps of one case.

    Attributes:
        scores: one for each class.
        remarks: oddities of the files that were corrected in memory.
        strange: file -> the values in it that are of no class.
    """

    scores: Sequence[Score]
    remarks: Sequence[str]
    strange: Mapping[Path, Sequence[int]]


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

    def compare(
        self,
        classes: Classes,
        *,
        tolerance_mm: float = TOLERANCE_MM,
        challenge: bool = False,
    ) -> Compared:
        """Read and compare both, class by class; arguments as for `crossmod.scores.metrics.score`.

        Raises:
            DataError: a file is not a label map, or the two are on different grids.
        """
        files = self.prediction, self.reference
        prediction, reference = _read(files)
        if prediction.labels.shape != reference.labels.shape:
            prediction, reference = self._together(prediction, reference)
        grids = [Grid(one.labels.shape, one.affine) for one in (prediction, reference)]
        if fault := difference(*grids):
            raise DataError(
                f"is not on the grid of its reference: {fault.told}",
                where=str(self.prediction),
                fix="resample the prediction to the grid of the reference, nearest neighbor",
            )
        try:
            results = score(
                classes.to_labels(prediction.labels),
                classes.to_labels(reference.labels),
                reference.affine,
                classes.labels,
                tolerance_mm=tolerance_mm,
                challenge=challenge,
            )
        except DataError as error:
            raise DataError(error.what, where=self.case, fix=error.fix) from error
        maps = dict(zip(files, (prediction, reference), strict=True))
        return Compared(
            [Score("", "", self.case, self.center, *item) for item in results.items()],
            [f"{path}: {text}" for path, one in maps.items() for text in one.remarks],
            {path: _strange(one.labels, classes) for path, one in maps.items()},
        )

    def _together(self, prediction: LabelMap, reference: LabelMap) -> tuple[LabelMap, LabelMap]:
        """Both on one grid where one is a segmentation of a part, and no label is lost."""
        with suppress(FileFault):
            return prediction, _brought(reference, prediction)
        with suppress(FileFault):
            return _brought(prediction, reference), reference
        return prediction, reference


def compare_all(
    pairs: Iterable[LabelPair],
    classes: Classes,
    *,
    tolerance_mm: float = TOLERANCE_MM,
    challenge: bool = False,
) -> tuple[list[Score], list[str]]:
    """Compare every pair; arguments as for `crossmod.scores.metrics.score`.

    Returns:
        The scores, and the oddities of the files.

    Raises:
        DataError: lists every problem of every case.
    """
    found: list[Compared] = []
    problems: list[str] = []
    for pair in pairs:
        try:
            found.append(pair.compare(classes, tolerance_mm=tolerance_mm, challenge=challenge))
        except DataError as error:
            problems.append(str(error))
    if problems:
        cases = f"{len(problems)} of {len(problems) + len(found)} cases cannot be scored:"
        raise DataError("\n".join([cases, *problems]))
    remarks = [text for one in found for text in one.remarks]
    return [item for one in found for item in one.scores], remarks + _told(found)


def label_pairs(predictions: Path, references: Path, centers: Mapping[str, str]) -> list[LabelPair]:
    """The label maps that two folders hold of the same cases, sorted by case.

    The case is the name of a file without its ending, such as ``.nii.gz``, and ``_Label``. In a
    folder with names ending in ``_Label``, other files are ignored: data sets may keep scans and
    label maps together.

    Args:
        predictions: folder of predictions.
        references: folder of references.
        centers: center -> pattern of case ids; the first match counts.

    Raises:
        DataError: a folder lacks label maps or has two of one case, or a case is in one only.
    """
    found, expected = _label_maps(predictions), _label_maps(references)
    _check_same_cases(predictions, set(found), references, set(expected))
    return [
        LabelPair(case, _center(case, centers), found[case], expected[case])
        for case in sorted(expected)
    ]


def _brought(one: LabelMap, other: LabelMap) -> LabelMap:
    grid = Grid(other.labels.shape, other.affine)
    labels, remarks = on_grid(one, grid, False)
    return replace(one, labels=labels, affine=other.affine, remarks=(*one.remarks, *remarks))


def _read(files: Iterable[Path]) -> list[LabelMap]:
    """Read label maps, and collect the problems of all of them."""
    maps, problems = [], []
    for path in files:
        try:
            maps.append(load_labels(path))
        except DataError as error:
            # Fixes name keys of a recipe; here the user has none.
            problems.append(str(DataError(error.what, where=error.where, allowed=error.allowed)))
    if problems:
        raise DataError("\n".join(problems))
    return maps


def _strange(labels: LabelArray, classes: Classes) -> list[int]:
    values = np.flatnonzero(np.bincount(np.ravel(labels, order="K"))).tolist()
    known = {value for of in classes.values.values() for value in of}
    return sorted(set(values) - {0, *known})


def _told(found: Iterable[Compared]) -> list[str]:
    """A remark for each folder and set of values that are of no class."""
    files: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for one in found:
        for path, values in one.strange.items():
            if values:
                files[path.parent, ", ".join(map(str, values))].append(path.name)
    return [
        f"{folder}: labels: values {values} are of no class and count as background: {names[0]}"
        + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for (folder, values), names in files.items()
    ]


def _center(case: str, centers: Mapping[str, str]) -> str:
    return next((name for name, pattern in centers.items() if fnmatch(case, pattern)), "")


def _label_maps(folder: Path) -> dict[str, Path]:
    """Case -> label map."""
    stems = {
        path: nfc(stem_of(path.name))
        for path in _files(folder)
        if ending_of(path.name) and not path.name.startswith(".")
    }
    if any(stem.endswith(LABEL_ENDING) for stem in stems.values()):
        stems = {path: stem for path, stem in stems.items() if stem.endswith(LABEL_ENDING)}
    found: dict[str, Path] = {}
    for path, stem in stems.items():
        case = stem.removesuffix(LABEL_ENDING)
        if case in found:
            raise DataError(
                f"has two label maps: {found[case].name} and {path.name}",
                where=str(folder / case),
                fix="remove one of them",
            )
        found[case] = path
    if not found:
        raise DataError(
            f"contains no file that ends with {', '.join(ENDINGS)}",
            where=str(folder),
            fix="name another folder",
        )
    return found


def _files(folder: Path) -> list[Path]:
    with reading(folder):
        files = sorted(folder.iterdir())
    for path in files:
        try:
            path.name.encode()
        except UnicodeEncodeError as error:  # tables of scores are UTF-8
            what = f"has a name that is not UTF-8: {path.name!a}"
            raise DataError(what, where=str(folder), fix="rename it") from error
    return files


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
            f" .nii.gz and {LABEL_ENDING}",
        )
