"""Folders of DICOM series into a data folder, as NIfTI without anything that names a patient."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tomlkit
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from crossmod.data.cases import faults_of_cases
from crossmod.data.nifti import write_nifti
from crossmod.data.volumes import FloatArray
from crossmod.errors import DataError
from crossmod.exchange.data_folder import (
    Imported,
    Role,
    check_room,
    outputs_of,
    table_with,
    write_table,
)
from crossmod.files.outputs import Inputs
from crossmod.intake import load_scan
from crossmod.intake.dicom.files import HEAD_BYTES, is_marked
from crossmod.stages.context import Progress, silent_progress

ENDING = ".nii.gz"

STAGE = ".import-dicom-"
"""How folders begin in which an import collects its scans."""

LOCK = ".lock"
"""Held by the import that works in such a folder; the system frees it when the import ends."""


def import_series(
    folder: Path, out: Path, role: Role, series: str, progress: Progress = silent_progress
) -> Imported:
    """Read a series of every case and write it into a data folder; all of them or none.

    Args:
        folder: holds a folder for each case, named by it, or is itself the folder of one.
        out: the data folder; made if missing.
        role: target or validation; series come without label maps.
        series: which series of each case, as for `load_scan`.
        progress: wraps the iteration over cases.

    Raises:
        DataError: names every case that cannot be read; or the data folder has no room for them, or
            lies among them.
        MachineError: the extra `dicom` is not installed.
    """
    if role is Role.SOURCE:
        raise DataError("source scans need label maps, but DICOM series come without",
                        allowed="--as target, --as validation")  # fmt: skip
    cases = _cases(folder)
    outputs = outputs_of(out, Inputs(searched=(folder,)))
    outputs.require([])
    check_room(out, role, cases.keys())
    table = tomlkit.dumps(table_with(out, role, ENDING))
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        remarks = (*_loose(folder, cases), *_convert(cases, out, role, series, progress))
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise
    return Imported(role, len(cases), 0, 0, table, (*remarks, *write_table(outputs, table)))


def _cases(folder: Path) -> dict[str, Path]:
    """The folder of each case.

    Raises:
        DataError: there is none, or one that cannot be a case.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", where=str(folder))
    places = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    cases = {path.name: path for path in places} or {folder.resolve().name: folder}
    problems = faults_of_cases(cases)
    problems += [f"{path}: is a link; links are not followed" for path in places
                 if path.is_symlink()]  # fmt: skip
    if problems:
        raise DataError("\n".join(problems))
    return cases


def _loose(folder: Path, cases: Mapping[str, Path]) -> list[str]:
    """A remark where DICOM files lie beside the folders of the cases."""
    if folder in cases.values():
        return []
    loose = 0
    for path in folder.iterdir():
        if path.is_file() and path.name != "DICOMDIR":
            with path.open("rb") as file:
                loose += is_marked(file.read(HEAD_BYTES))
    return [f"{loose} DICOM files beside the case folders were skipped"] if loose else []


def _convert(
    cases: Mapping[str, Path], out: Path, role: Role, series: str, progress: Progress
) -> tuple[str, ...]:
    """Write the images of all cases into ``out / role``; returns what was odd."""
    problems: list[str] = []
    remarks: list[str] = []
    with _stage(out) as stage:
        images = stage / role / "images"
        for case, place in progress(cases.items(), total=len(cases)):
            try:
                loaded = load_scan(place, series=series)
            except DataError as error:
                problems.append(str(error))
                continue
            remarks += [f"{case}: {remark}" for remark in loaded.remarks]
            if not problems:
                write_nifti(images / f"{case}{ENDING}", _narrow(loaded.data), loaded.affine)
        if problems:
            raise DataError("\n".join(problems), fix="nothing was imported")
        images.parent.rename(out / role)
    return tuple(remarks)


@contextmanager
def _stage(out: Path) -> Iterator[Path]:
    """A folder to write into, removed at the end, as are those that killed imports left."""
    for left in (lock.parent for lock in out.glob(f"{STAGE}*/{LOCK}")):
        with suppress(OSError, Timeout), FileLock(left / LOCK, blocking=False):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=out, prefix=STAGE) as name, FileLock(Path(name) / LOCK):
        yield Path(name)


def _narrow(data: FloatArray) -> NDArray[np.generic]:
    """Whole numbers that fit as int16, others as they are."""
    small = np.abs(data).max() <= np.iinfo(np.int16).max
    whole = data.astype(np.int16) if small else data
    return whole if small and np.array_equal(whole, data) else data
