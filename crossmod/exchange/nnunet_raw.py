"""nnU-Net's raw folder of one data set: what `dataset.json` says, and which files lie where.

Version 2 (`Dataset501_Name`), and version 1 (`Task501_Name`), which calls channels "modality" and
maps label values to names. The Medical Segmentation Decathlon's own layout is neither.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod.data.cases import faults_of_cases, shown
from crossmod.data.folder import ENDINGS
from crossmod.errors import DataError
from crossmod.files.text import read_text

WHOLE = tuple(one for one in ENDINGS if one not in (".nhdr", ".mhd"))
"""Endings of files that hold header and voxels; the others would be imported without voxels."""

NUMBER = re.compile(r"[0-9]{1,4}")
"""A channel, or a label in version 1."""


@dataclass(frozen=True)
class RawCase:
    """The files of one case.

    Attributes:
        case: identifier, unique in the data set.
        image: file of the chosen channel.
        labels: label map file, or None.
    """

    case: str
    image: Path
    labels: Path | None


@dataclass(frozen=True)
class RawDataset:
    """One data set.

    Attributes:
        classes: class -> its value in label maps, or its values; without background.
        ending: file ending of all images and label maps.
        training: the cases of imagesTr, all of them labeled or none.
        test: the cases of imagesTs.
    """

    classes: Mapping[str, int | list[int]]
    ending: str
    training: tuple[RawCase, ...]
    test: tuple[RawCase, ...]

    @property
    def labeled(self) -> bool:
        """Whether the training cases have label maps."""
        return any(case.labels for case in self.training)


def read_raw(folder: Path, channel: int | None) -> RawDataset:
    """Read `dataset.json` and find the files.

    Args:
        folder: the folder of one data set.
        channel: which channel to take; None where there is one only.

    Raises:
        DataError: names everything that is missing, left over or not understood.
    """
    content = _read_json(folder / "dataset.json")
    problems: list[str] = []
    classes = _classes(_labels(content, problems), problems)
    ending = content.get("file_ending", ".nii.gz")
    if str(ending).lower() not in WHOLE:
        problems.append(f"file_ending is {shown(repr(ending))}; crossmod reads {', '.join(WHOLE)}")
    if "dataset" in content:
        problems.append('files are listed under "dataset"; move them to imagesTr and labelsTr')
    chosen = _channel(content, channel, problems)
    if problems:
        raise DataError("\n".join(problems), where=str(folder / "dataset.json"))
    training = _cases(folder, "Tr", ending, chosen, problems)
    test = _cases(folder, "Ts", ending, chosen, problems)
    _compare(training, test, content, problems)
    if problems:
        raise DataError("\n".join(problems), where=str(folder))
    return RawDataset(classes, ending, training, test)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            "is not a file",
            where=str(path),
            fix="name the folder of one data set, such as nnUNet_raw/Dataset501_Name",
        )
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise DataError("holds no table", where=str(path))
    return content


def _labels(content: Mapping[str, Any], problems: list[str]) -> Mapping[str, Any]:
    """Name -> value or values, from either version's "labels"."""
    labels = content.get("labels") or {}
    if not isinstance(labels, dict):
        problems.append(f"labels are {shown(repr(labels))}, not a table of names and values")
        return {}
    if not all(NUMBER.fullmatch(value) and isinstance(n, str) for value, n in labels.items()):
        return {name: _number(value) for name, value in labels.items()}
    values: dict[str, list[int]] = {}
    for value, name in labels.items():
        values.setdefault(name, []).append(int(value))
    return values


def _number(value: Any) -> Any:
    """A number that somebody wrote as a text as a number, in a list too; anything else as it is."""
    if isinstance(value, list):
        return [_number(one) for one in value]
    return int(value) if isinstance(value, str) and NUMBER.fullmatch(value.strip()) else value


def _classes(labels: Mapping[str, Any], problems: list[str]) -> dict[str, int | list[int]]:
    """Class -> value or values, without background."""
    classes: dict[str, int | list[int]] = {}
    for name, value in labels.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(type(one) is int and 0 <= one <= 255 for one in values):
            told = f"label '{shown(name)}' is {shown(repr(value))}"
            problems.append(f"{told}; crossmod reads 0 to 255")
        elif name == "ignore":
            problems.append("label 'ignore': crossmod cannot ignore voxels; relabel them")
        elif values != [0]:
            classes[name] = values[0] if len(values) == 1 else values
    used = Counter(
        one for value in classes.values() for one in (value if isinstance(value, list) else [value])
    )
    shared = [str(value) for value, count in used.items() if count > 1]
    if shared:
        problems.append(
            f"labels overlap in value {', '.join(shared)}: classes must not"
            " overlap; keep one name for each value"
        )
    return classes


def _channel(content: Mapping[str, Any], wanted: int | None, problems: list[str]) -> int:
    names = content.get("channel_names", content.get("modality"))
    if not names or not isinstance(names, dict) or not all(map(NUMBER.fullmatch, names)):
        problems.append('lacks the table "channel_names" (version 1: "modality")')
        return 0
    known: dict[int, str] = {int(number): name for number, name in names.items()}
    if wanted is None and len(known) == 1:
        return next(iter(known))
    if wanted not in known:
        listed = ", ".join(
            f"--channel {number} ({shown(str(name))})" for number, name in known.items()
        )
        what = "several channels" if wanted is None else f"no channel {wanted}"
        problems.append(f"has {what}; choose {listed}")
    return wanted or 0


def _cases(
    folder: Path, part: str, ending: str, channel: int, problems: list[str]
) -> tuple[RawCase, ...]:
    """The cases of imagesTr and labelsTr, or of imagesTs and labelsTs."""
    images: dict[str, set[int]] = {}
    for name in _names(folder / f"images{part}", ending):
        if match := re.fullmatch(r"(.+)_(\d{4})", name):
            images.setdefault(match[1], set()).add(int(match[2]))
        else:
            problems.append(f"images{part}/{name}{ending}: no channel number as in CASE_0000")
    problems += faults_of_cases(sorted(images))
    labels = set(_names(folder / f"labels{part}", ending))
    problems += [f"labels{part}/{name}{ending}: no image" for name in sorted(labels - set(images))]
    if labels:
        unlabeled = sorted(set(images) - labels)
        problems += [f"images{part}/{name}: no label map in labels{part}" for name in unlabeled]
    cases = []
    for name, channels in sorted(images.items()):
        image = folder / f"images{part}" / f"{name}_{channel:04}{ending}"
        if channel not in channels:
            problems.append(f"{image.relative_to(folder)} is missing")
        label = folder / f"labels{part}" / f"{name}{ending}" if name in labels else None
        cases.append(RawCase(name, image, label))
    return tuple(cases)


def _names(folder: Path, ending: str) -> list[str]:
    """Names without the ending, sorted; hidden files are not data."""
    paths = folder.glob(f"*{ending}") if folder.is_dir() else ()
    return sorted(p.name.removesuffix(ending) for p in paths if not p.name.startswith("."))


def _compare(
    training: tuple[RawCase, ...],
    test: tuple[RawCase, ...],
    content: Mapping[str, Any],
    problems: list[str],
) -> None:
    if not training and not test and not problems:
        problems.append("no image in imagesTr or imagesTs")
    promised = _number(content.get("numTraining", len(training)))
    if promised != len(training):
        problems.append(f"dataset.json promises {promised} training cases, found {len(training)}")
    both = sorted({case.case for case in training} & {case.case for case in test})
    problems += [f"{name}: in imagesTr and in imagesTs" for name in both]
