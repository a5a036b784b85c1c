"""The raw folder of nnU-Net: images, label maps and what they mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel

from crossmod import Case, Cohort

DATASET = "Dataset001_crossmod"
ENDING = ".nii"
IGNORE = "ignore"


def name_of(number: int) -> str:
    """What the case of this number is called: names of nnU-Net allow less than case ids."""
    return f"case{number:05d}"


def write_raw(folder: Path, cohort: Cohort) -> None:
    """Write a labeled cohort as a raw data set, and replace what was there.

    Voxels that a case ignores get nnU-Net's label "ignore".

    Args:
        folder: that of the data set.
        cohort: its images and label maps are linked.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    ignored = any(case.ignore for case in cohort.cases)
    for number, case in enumerate(cohort.cases):
        image = folder / "imagesTr" / f"{name_of(number)}_0000{ENDING}"
        image.symlink_to(case.image.resolve())
        labels = folder / "labelsTr" / f"{name_of(number)}{ENDING}"
        if case.ignore:
            _write_labels(labels, case, 1 + len(cohort.classes))
        elif case.labels:
            labels.symlink_to(case.labels.resolve())
    content = description(cohort.classes, len(cohort), ignored=ignored)
    (folder / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def description(classes: Mapping[str, int], cases: int, *, ignored: bool) -> dict[str, Any]:
    """What `dataset.json` says.

    Args:
        classes: class name -> label; a number before its name keeps it from meaning "ignore".
        cases: how many.
        ignored: whether label maps have the label "ignore".
    """
    labels = {"background": 0} | {f"{label} {name}": label for name, label in classes.items()}
    return {
        "channel_names": {"0": "MRI"},  # any but "CT" is normalized by mean and deviation
        "labels": labels | ({IGNORE: len(labels)} if ignored else {}),
        "numTraining": cases,
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NibabelIO",
    }


def _write_labels(path: Path, case: Case, ignored: int) -> None:
    pair = case.pair()
    labels = pair.labels.copy()
    labels[pair.ignore] = ignored
    nibabel.save(nibabel.Nifti1Image(labels, pair.image.affine), path)
