"""The series of a folder, and the one that is meant."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod.errors import DataError, counted, itemized
from crossmod.intake.dicom.files import find_files, parsing, read_tags
from crossmod.intake.dicom.tags import text_of, uid_of, unusable

DIRECTORY = "1.2.840.10008.1.3.10"
"""Class of DICOMDIR, an index of files; what it points to is not read."""

MOST = 5
"""Damaged files that are named."""

HEAD = ["SeriesInstanceUID", "SeriesDescription", "SpecificCharacterSet", "SOPClassUID", "Rows"]


@dataclass(frozen=True)
class Series:
    """One series of a folder.

    Attributes:
        uid: its SeriesInstanceUID.
        description: its SeriesDescription.
        files: relative to the folder, sorted.
    """

    uid: str
    description: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        count = counted(len(self.files), "file")
        return f"{self.uid}: {count}, {self.description or 'no description'}"


def find_series(folder: Path, wanted: str) -> tuple[Series, list[str]]:
    """The one series that is meant, and remarks on what was passed over.

    Args:
        folder: searched with all folders in it.
        wanted: a SeriesInstanceUID, a pattern of the description, or empty for the only one.

    Raises:
        DataError: there is none, or several; they are listed.
    """
    names, links = find_files(folder)
    remarks = [f"{links} link{'s were' if links > 1 else ' was'} not followed"] if links else []
    found = _grouped(folder, names)
    if not found:
        told = f" ({remarks[0]})" if remarks else ""
        raise DataError(f"holds neither NIfTI files nor a DICOM series{told}")
    return _choose(found, wanted), remarks


def _grouped(folder: Path, names: Sequence[str]) -> list[Series]:
    """The series that have images, by UID.

    Raises:
        DataError: names every file that cannot be parsed, and does so before any is chosen.
    """
    heads: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    kinds = set()
    problems: list[DataError] = []
    for name in names:
        try:
            with parsing(name):
                head = read_tags(folder, name, HEAD)
                kind = _class_of(head)
                if "Rows" not in head or kind == DIRECTORY:
                    others[name] = head
                    continue
                heads.setdefault(uid_of(head, "SeriesInstanceUID", name), {})[name] = head
                kinds.add(kind)
        except DataError as error:
            problems.append(error)
    problems += [unusable("Rows", name) for name, head in others.items() if _is_cut(head, kinds)]
    if problems:
        raise DataError(itemized("holds damaged files:", [*map(str, problems)], MOST))
    return [
        Series(uid, next(filter(None, (text_of(h, HEAD[1], n) for n, h in files.items())), ""),
               tuple(files))
        for uid, files in sorted(heads.items())
    ]  # fmt: skip


def _class_of(head: Any) -> Any:
    from pydicom.uid import UID

    return UID(str(head.file_meta.get("MediaStorageSOPClassUID") or head.get("SOPClassUID", "")))


def _is_cut(head: Any, images: Container[Any]) -> bool:
    """Whether a file without rows should have them; a report or an index should not.

    Some objects belong to no series. Of a kind that nobody knows they are more likely a rest.
    """
    kind = _class_of(head)
    unknown = kind.name == kind and "SeriesInstanceUID" not in head
    return kind != DIRECTORY and (not kind or unknown or kind in images or "Image" in kind.name)


def _choose(found: Sequence[Series], wanted: str) -> Series:
    pattern = ".*".join(re.escape(part) for part in wanted.split("*"))
    chosen = [
        one
        for one in found
        if wanted in ("", one.uid) or re.fullmatch(pattern, one.description, re.IGNORECASE)
    ]
    if len(chosen) == 1:
        return chosen[0]
    what = f"holds {len(found)} series"
    if wanted:
        what += f", of which {len(chosen) or 'none'} match{'' if chosen else 'es'} '{wanted}'"
    raise DataError(
        "\n".join([f"{what}:", *(f"  {one}" for one in found)]),
        fix="choose one by its UID or a pattern of its description: --series, in a recipe `series`",
    )
