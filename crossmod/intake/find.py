"""Which scans a user means by paths, and what lies in a folder of which no recipe says anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.data.cases import faults_of_cases
from crossmod.data.folder import NIFTI
from crossmod.errors import DataError
from crossmod.files.outputs import Outputs
from crossmod.intake.survey import File

PREDICT = "crossmod predict"
"""How a ledger names the command whose label maps are not scans."""

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""The words of a name such as ``case_1-Label.nii.gz`` or ``labelsTr``."""

LABELS = re.compile(r"labels?|d?segs?|segmentations?|masks?|hidden", re.IGNORECASE)
"""Such a word in the name of a file or of its folder says that it is a label map."""


@dataclass(frozen=True)
class ScanFile:
    """One scan and what it is called.

    Attributes:
        case: its name, unique among the scans of a command.
        path: a NIfTI file, or a folder with a DICOM series.
        series: which series of the folder; may be empty where there is one only.
    """

    case: str
    path: Path
    series: str = ""

    @property
    def is_dicom(self) -> bool:
        """Whether it is a folder of DICOM files."""
        return self.path.is_dir()


def find_scan_files(paths: Sequence[Path], ending: str = "", series: str = "") -> list[ScanFile]:
    """The scans behind paths, in the order given.

    In a folder, label maps that `crossmod predict` wrote there are passed over.

    Args:
        paths: NIfTI files, folders of NIfTI files, or folders of DICOM files.
        ending: what names of scans end with before ``.nii.gz``; it is no part of the case, and
            files of a folder that end otherwise are passed over.
        series: which series of folders of DICOM files.

    Raises:
        DataError: names every path that is no scan, every case that comes twice, and every one
            that cannot name files.
    """
    problems: list[str] = []
    found: dict[str, Path] = {}
    for path in paths:
        try:
            scans = _scans(path, ending)
        except DataError as error:
            problems.append(str(error))
            continue
        for case, file in scans:
            if case in found:
                problems.append(f"{file}: the name '{case}' is taken by {found[case]}")
            found.setdefault(case, file)
    problems += faults_of_cases(found)
    if problems:
        raise DataError("\n".join(problems))
    return [ScanFile(case, path, series if path.is_dir() else "") for case, path in found.items()]


def _scans(path: Path, ending: str) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(_case(path, ending), path)]
    if not path.is_dir():
        raise DataError("does not exist", where=str(path))
    files = [file for file in sorted(path.iterdir()) if file.is_file() and file.name[0] != "."]
    images = [file for file in files if file.name.endswith(NIFTI)]
    outlined = Outputs(path, PREDICT).written() if images else set()
    if images and outlined.issuperset(file.name for file in images):
        raise DataError(f"holds only label maps that {PREDICT} wrote", where=str(path))
    images = [file for file in images if file.name not in outlined]
    if images:
        named = [file for file in images if _stem(file).endswith(ending)]
        if not named:
            raise DataError(f"has no scan whose name ends with '{ending}'", where=str(path))
        return [(_case(file, ending), file) for file in named]
    if not any(one.is_file() for one in path.rglob("*")):  # DICOM may lie deeper
        raise DataError(
            "holds no files", where=str(path), fix="name the folder of the scans themselves"
        )
    return [(_case(path, ending), path)]


def _stem(path: Path) -> str:
    name = path.name if path.name not in ("", "..") else path.resolve().name
    suffix = next((suffix for suffix in NIFTI if path.is_file() and name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def _case(path: Path, ending: str) -> str:
    if path.is_file() and not path.name.endswith(NIFTI):
        raise DataError(
            "is not a NIfTI file by its name",
            where=str(path),
            allowed=", ".join(NIFTI),
            fix="of a DICOM series, name its folder",
        )
    stem = _stem(path)
    if not stem.endswith(ending) or stem == ending:
        raise DataError(f"does not end with '{ending}' after a name", where=str(path))
    return stem.removesuffix(ending)


@dataclass
class Folder:
    """What was found in a folder and all folders in it; hidden files and folders are passed over.

    Attributes:
        files: NIfTI files, and folders of DICOM files.
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
            found.files += _images(here, sorted(name for name in names if name[0] != "."))
        return found

    def _refuse(self, error: OSError) -> None:
        self.problems.append(f"{error.filename}: folder: cannot be read: {error.strerror}")


def _images(here: Path, names: list[str]) -> Iterator[File]:
    """The NIfTI files among those of a folder; without any, the folder if it holds DICOM files."""
    images = [here / name for name in names if name.lower().endswith(NIFTI)]
    for path in images:
        yield path, "labels" if _is_named_labels(path) else "scan", ""
    if not images and any(_is_dicom(here / name) for name in names):
        yield here, "scan", ""


def _is_named_labels(path: Path) -> bool:
    place = path.absolute()
    stem = place.name.partition(".nii")[0]
    return any(LABELS.fullmatch(word) for word in WORDS.findall(f"{place.parent.name}/{stem}"))


def _is_dicom(path: Path) -> bool:
    with suppress(OSError):
        if path.is_file():  # a pipe would be waited for
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
    return False
