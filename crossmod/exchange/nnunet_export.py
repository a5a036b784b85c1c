"""Cohorts of a run as an nnU-Net v2 raw data set."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.data import Case, Cohort, read_affine, read_image, read_labels, write_nifti
from crossmod.errors import DataError

ENDING = ".nii.gz"
FOLDS = 5
"""The folds nnU-Net trains."""

SPLITS = "splits_final.json"
"""The file in a preprocessed folder from which nnU-Net takes its folds, if it is there."""

Progress = Callable[[Sequence[Case]], Iterable[Case]]


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        folder: the data set.
        training: labeled cases, in imagesTr and labelsTr.
        test: unlabeled cases, in imagesTs.
        splits: folds by patient, where some patient has several labeled cases.
    """

    folder: Path
    training: int
    test: int
    splits: Path | None


def load_joined(folders: Sequence[Path]) -> Cohort:
    """The cohorts of several step folders as one.

    Raises:
        DataError: a folder holds no cohort, classes differ, or a case is in two of them.
    """
    missing = [folder for folder in folders if not (folder / Cohort.MANIFEST).is_file()]
    if missing:
        inside = [path.parent for folder in missing for path in folder.glob(f"*/{Cohort.MANIFEST}")]
        raise DataError(
            "\n".join(f"{folder}: holds no {Cohort.MANIFEST}" for folder in missing),
            allowed=", ".join(map(str, sorted(inside))),
            fix="name the folders of steps that make scans, such as RUN/06-translate-sharpen",
        )
    first, *others = (Cohort.load(folder) for folder in folders)
    joined = first
    for folder, other in zip(folders[1:], others, strict=True):
        if other.classes != first.classes:
            raise DataError(
                f"classes are {dict(other.classes)}", where=str(folder), allowed=str(first.classes)
            )
        joined = joined + other
    counts = Counter(case.case for case in joined.cases)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"in more than one cohort: {', '.join(twice)}")
    return joined


def export_raw(
    cohort: Cohort, out: Path, *, number: int, name: str, channel: str, progress: Progress
) -> Exported:
    """Write a cohort as ``out/Dataset{number}_{name}``; labeled cases are for training.

    Args:
        cohort: cases with unique names.
        out: nnU-Net's raw folder; made if missing.
        number: identifier of the data set, 1 to 999.
        name: name of the data set: letters, digits, `-` and `_`.
        channel: name of the one channel; nnU-Net normalizes by it (not "CT" for MRI).
        progress: wraps the iteration over cases.

    Raises:
        DataError: number or name is not allowed, or the number is taken.
    """
    folder = out / f"Dataset{number:03}_{name}"
    _check(folder, number, name)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as temporary:
        stage = Path(temporary) / folder.name
        for part in ("imagesTr", "labelsTr", "imagesTs"):
            (stage / part).mkdir(parents=True)
        for case in progress(cohort.cases):
            _write(case, stage)
        labeled = cohort.only(lambda case: case.labels is not None)
        _write_json(stage / "dataset.json", {
            "channel_names": {"0": channel},
            "labels": {"background": 0, **cohort.classes},
            "numTraining": len(labeled),
            "file_ending": ENDING,
        })  # fmt: skip
        splits = _splits(labeled)
        if splits:
            _write_json(stage / SPLITS, splits)
        stage.rename(folder)
    test = len(cohort) - len(labeled)
    return Exported(folder, len(labeled), test, folder / SPLITS if splits else None)


def _check(folder: Path, number: int, name: str) -> None:
    if not 1 <= number <= 999:
        raise DataError(f"{number} is not the number of a data set", allowed="1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise DataError(f"'{name}' is not a name", allowed="letters, digits, - and _")
    taken = sorted(folder.parent.glob(f"Dataset{number:03}_*"))
    if taken:
        raise DataError(
            f"number {number} is taken", where=str(taken[0]), fix="choose another --dataset"
        )


def _write(case: Case, folder: Path) -> None:
    part = "Tr" if case.labels else "Ts"
    affine = read_affine(case.image)
    image = folder / f"images{part}" / f"{case.case}_0000{ENDING}"
    write_nifti(image, read_image(case.image)[0], affine)
    if case.labels is not None:
        labels = folder / "labelsTr" / f"{case.case}{ENDING}"
        write_nifti(labels, read_labels(case.labels), affine)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _splits(labeled: Cohort) -> list[dict[str, list[str]]]:
    """Folds that keep the copies of a patient together, which nnU-Net's own would not."""
    patients = {case.patient for case in labeled.cases}
    if len(patients) == len(labeled) or len(patients) < FOLDS:
        return []
    return [
        {"train": [case.case for case in train.cases], "val": [case.case for case in val.cases]}
        for train, val in labeled.folds(FOLDS, seed=0)
    ]
