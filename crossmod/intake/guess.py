"""What lies in a folder about which no recipe says anything, as far as names and content tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from crossmod.data.classes import Classes
from crossmod.data.folder import SEGMENTATION, ending_of, stem_of
from crossmod.errors import DataError
from crossmod.intake.facts import Facts, Inspector, Kind
from crossmod.intake.labels import ROUNDED, load_labels
from crossmod.intake.options import Intake
from crossmod.intake.scans import few_values, load_scan
from crossmod.intake.survey import File, Survey
from crossmod.stages.context import Progress, silent_progress

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""The words of a name such as ``case_1-Label.nii.gz`` or ``labelsTr``."""

LABELS = re.compile(r"labels?|d?segs?|segmentations?|masks?|hidden", re.IGNORECASE)
"""Such a word in the name of a file or of its folder says that it is a label map."""


MAX_VALUES = 64
"""Different values of a file that is called a label map and is one."""


@dataclass
class Folder:
    """What was found in a folder and all folders in it; hidden files and folders are passed over.

    Attributes:
        files: image files, and folders of DICOM files.
        problems: folders that cannot be read.
        links: links to other folders, which are not followed.
    """

    files: list[File] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> Folder:
        """Look through a folder."""
        found = cls()
        for place, folders, names in os.walk(root, onerror=found._refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            here = Path(place)
            found.links += [here / name for name in folders if (here / name).is_symlink()]
            found.files += _scans(here, sorted(name for name in names if name[0] != "."))
        return found

    def _refuse(self, error: OSError) -> None:
        self.problems.append(f"{error.filename}: folder: cannot be read: {error.strerror}")


@dataclass(frozen=True)
class Guesser(Inspector):
    """Takes a file that is a label map by its name only for the scan that it may be as well."""

    def facts(self, path: Path, kind: Kind, series: str = "") -> Facts:
        """The facts of one file; nothing in it is rounded on a guess.

        Raises:
            DataError: it cannot be trusted, whatever it is.
        """
        if kind == "scan":
            return super().facts(path, kind, series)
        try:
            found = super().facts(path, "labels")
            if ROUNDED not in found.remarks:
                return found
            told = "values are not quite whole numbers"
        except DataError as error:
            told = error.what
        scan = super().facts(path, "scan")
        remark = f"labels: {told}; treated as a scan, although its name suggests a label map"
        return replace(scan, remarks=(*scan.remarks, remark))


def survey_folder(root: Path, options: Intake, progress: Progress = silent_progress) -> Survey:
    """Look into every file of a folder, each by itself.

    Args:
        root: the folder.
        options: what is done with files that are not as they should be.
        progress: wraps the iteration over files.

    Raises:
        DataError: it holds no NIfTI or DICOM files.
    """
    there = Folder.of(root)
    if not there.files and not there.problems:
        raise DataError("holds neither image files nor DICOM files", where=str(root))
    found = Survey((), Classes({}), problems=there.problems)
    found.read(there.files, Guesser(options), progress)
    for path, facts in sorted(found.facts.items()):
        found.remarks += [("", f"{path}: {text}") for text in facts.remarks]
    found.remarks += [("", f"{link}: link: is not followed") for link in there.links]
    return found


def _scans(here: Path, names: list[str]) -> Iterator[File]:
    """The image files among those of a folder; without any, the folder if it holds DICOM files."""
    images = [here / name for name in names if ending_of(name)]
    for path in images:
        yield path, "labels" if has_label_name(path) else "scan", ""
    if not images and any(_is_dicom(here / name) for name in names):
        yield here, "scan", ""


def has_label_name(path: Path) -> bool:
    """Whether a file, or its folder, is called as label maps are."""
    place = path.absolute()
    if ending_of(place.name) == SEGMENTATION:
        return True
    stem = stem_of(place.name)
    return any(LABELS.fullmatch(word) for word in WORDS.findall(f"{place.parent.name}/{stem}"))


def is_label_map(path: Path, *, by_name: bool) -> bool:
    """Whether a file holds a label map, as far as its values tell.

    Args:
        path: an image file.
        by_name: whether its name says so; then it may hold more different values.
    """
    if ending_of(path.name) == SEGMENTATION:
        return True
    try:
        if not by_name:
            return bool(few_values(load_scan(path).data))
        found = load_labels(path)
    except DataError:  # reading it as a scan says what is wrong
        return False
    return ROUNDED not in found.remarks and np.unique(found.labels).size <= MAX_VALUES


def _is_dicom(path: Path) -> bool:
    with suppress(OSError):
        if path.is_file():  # a pipe would be waited for
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
    return False
