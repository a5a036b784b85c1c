"""Which scans a user means by paths on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.data.cases import faults_of_cases
from crossmod.data.folder import NIFTI
from crossmod.errors import DataError
from crossmod.files.outputs import Outputs

PREDICT = "crossmod predict"
"""How a ledger names the command whose label maps are not scans."""


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
