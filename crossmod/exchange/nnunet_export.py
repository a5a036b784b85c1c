"""Cohorts of a run as an nnU-Net v2 raw data set."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from crossmod.data.cases import faults_of_cases, shown
from crossmod.data.cohorts import Case, Cohort
from crossmod.data.nifti import write_nifti
from crossmod.errors import DataError, reading
from crossmod.files.outputs import NOTHING, Inputs, new_folder
from crossmod.intake import load_labels, load_scan
from crossmod.options import FileValue, Name, Options, problems_in
from crossmod.stages.context import Progress, silent_progress

ENDING = ".nii.gz"
FOLDS = 5
"""The folds nnU-Net trains."""

SPLITS = "splits_final.json"
"""The file in a preprocessed folder from which nnU-Net takes its folds, if it is there."""


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


class ManifestRow(Options):
    """A case in a manifest; its files are named relative to the folder."""

    case: str
    patient: str
    center: str
    image: str
    labels: str | None
    weight: float = 1.0
    ignore: str | None = None


class Manifest(Options):
    """What `Cohort.save` writes."""

    classes: dict[Name, FileValue]
    cases: tuple[ManifestRow, ...]


def load_joined(folders: Sequence[Path]) -> Cohort:
    """The cohorts of several step folders as one.

    Raises:
        DataError: a folder holds no cohort or a damaged one, classes differ, or a case is in two
            of them.
    """
    missing = [folder for folder in folders if not (folder / Cohort.MANIFEST).is_file()]
    if missing:
        inside = [path.parent for folder in missing for path in folder.glob(f"*/{Cohort.MANIFEST}")]
        raise DataError(
            "\n".join(f"{folder}: holds no {Cohort.MANIFEST}" for folder in missing),
            allowed=", ".join(map(str, sorted(inside))),
            fix="name the folders of steps that make scans, such as RUN/06-translate-sharpen",
        )
    first, *others = map(_load, folders)
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


def _load(folder: Path) -> Cohort:
    """The cohort of a folder that anybody may have made."""
    file = folder / Cohort.MANIFEST
    try:
        with reading(file):
            manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(problems_in(error), where=str(file)) from error
    problems = faults_of_cases(row.case for row in manifest.cases)
    for row in manifest.cases:
        outside = [
            name
            for name in (row.image, row.labels, row.ignore)
            if name and not _below(folder, name)
        ]
        problems += [
            f"{shown(row.case)}: {shown(name)} lies outside of the folder" for name in outside
        ]
    if problems:
        raise DataError("\n".join(problems), where=str(file))
    cases = tuple(
        Case(
            *(row.case, row.patient, row.center),
            folder / row.image,
            folder / row.labels if row.labels else None,
            row.weight,
            folder / row.ignore if row.ignore else None,
        )
        for row in manifest.cases
    )
    return Cohort(cases, manifest.classes)


def _below(folder: Path, name: str) -> bool:
    """Whether a file lies in a folder, links followed."""
    try:
        return (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no name at all, or links in a circle
        return False


def export_raw(
    cohort: Cohort,
    out: Path,
    *,
    number: int,
    name: str,
    channel: str,
    inputs: Inputs = NOTHING,
    progress: Progress = silent_progress,
) -> Exported:
    """Write a cohort as ``out/Dataset{number}_{name}``; labeled cases are for training.

    Voxels that a case ignores have nnU-Net's label "ignore"; it has no weights of cases.

    Args:
        cohort: cases with unique names.
        out: nnU-Net's raw folder; made if missing.
        number: identifier of the data set, 1 to 999.
        name: name of the data set: letters, digits, `-` and `_`.
        channel: name of the one channel; nnU-Net normalizes by it (not "CT" for MRI).
        inputs: the folders that the cohort lies in.
        progress: wraps the iteration over cases.

    Raises:
        DataError: number or name is not allowed, the number is taken, or the folder lies in one
            that the cohort lies in.
        MachineError: it cannot be written.
    """
    folder = out / f"Dataset{number:03}_{name}"
    _check(folder, number, name)
    with new_folder(folder, inputs) as stage:
        for part in ("imagesTr", "labelsTr", "imagesTs"):
            (stage / part).mkdir()
        labels = {"background": 0, **cohort.classes}
        if any(case.ignore for case in cohort.cases):
            labels["ignore"] = 1 + max(labels.values())
        for case in progress(cohort.cases):
            _write(case, stage, labels.get("ignore", 0))
        labeled = cohort.only(lambda case: case.labels is not None)
        _write_json(stage / "dataset.json", {
            "channel_names": {"0": channel},
            "labels": labels,
            "numTraining": len(labeled),
            "file_ending": ENDING,
        })  # fmt: skip
        splits = _splits(labeled)
        if splits:
            _write_json(stage / SPLITS, splits)
    test = len(cohort) - len(labeled)
    return Exported(folder, len(labeled), test, folder / SPLITS if splits else None)


def _check(folder: Path, number: int, name: str) -> None:
    if not 1 <= number <= 999:
        raise DataError(f"{number} is not a valid number for a data set", allowed="1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise DataError(f"'{name}' is not a name", allowed="letters, digits, - and _")
    taken = sorted(folder.parent.glob(f"Dataset{number:03}_*"))
    if taken:
        raise DataError(
            f"number {number} is taken", where=str(taken[0]), fix="choose another --dataset"
        )


def _write(case: Case, folder: Path, ignored: int) -> None:
    part = "Tr" if case.labels else "Ts"
    image = load_scan(case.image)
    write_nifti(folder / f"images{part}" / f"{case.case}_0000{ENDING}", image.data, image.affine)
    if case.labels is not None:
        labels = load_labels(case.labels).labels
        if case.ignore is not None:
            labels = np.where(load_labels(case.ignore).labels > 0, ignored, labels)
        write_nifti(folder / "labelsTr" / f"{case.case}{ENDING}", labels, image.affine)


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
