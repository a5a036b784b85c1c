"""Which files of a folder are DICOM, and how they are parsed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from crossmod.errors import CrossmodError, DataError, listed, reading
from crossmod.intake.dicom.tags import tag_name

NAMES = (".dcm", ".dicom", ".ima")
"""Endings that promise DICOM."""

VOXELS = 0x7FE00010
"""The tag of PixelData."""

UNDEFINED = 0xFFFFFFFF
"""A length that a delimiter says instead; compressed voxels have it."""

PREAMBLE, MAGIC, META = 128, b"DICM", b"\x02\x00"

HEAD_BYTES = PREAMBLE + 6
"""So much of a file tells whether it is DICOM."""

FIRST_GROUPS = (META, b"\x08\x00")
"""How files without a preamble begin."""

PACKED = ".gz"


def silence() -> None:
    """Keep pydicom from judging or saying anything about values that are odd but readable."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.disable()
    warnings.simplefilter("ignore")


def find_files(folder: Path) -> tuple[list[str], int]:
    """The DICOM files below a folder, relative to it and sorted, and how many links there are.

    Links are not followed, so nothing outside the folder is read; hidden files are passed over.

    Raises:
        DataError: names all files that should be DICOM and do not begin so, or a file or folder
            that cannot be read.
    """
    found: list[str] = []
    damaged: list[str] = []
    links = 0
    for place, folders, names in os.walk(folder, onerror=_refuse_in(folder)):
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        links += sum(one.is_symlink() for one in (*paths, *(Path(place, one) for one in folders)))
        heads = {one: _head(one, folder) for one in paths if not one.is_symlink() and one.is_file()}
        images = {one for one, head in heads.items() if is_marked(head)}
        endings = {_ending(one) for one in images}
        wrong = [
            one for one in heads if one not in images and _is_damaged(one, heads[one], endings)
        ]
        found += [str(one.relative_to(folder)) for one in images]
        damaged += [str(one.relative_to(folder)) for one in wrong]
    if damaged:
        raise DataError(
            f"has files that should be DICOM and do not begin so: {listed(sorted(damaged))}",
            fix="copy them again, unpack them, or move other files elsewhere",
        )
    return sorted(found), links


def is_marked(head: bytes) -> bool:
    """Whether a file that begins so bears the mark of DICOM."""
    return head[PREAMBLE:].startswith(MAGIC)


def promises_dicom(path: Path) -> bool:
    """Whether a file bears the mark of DICOM, begins like DICOM or is named so."""
    if _has_name(path):
        return True
    try:
        if not path.is_file() or path.is_symlink():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return is_marked(head) or head.startswith(FIRST_GROUPS) or head[PREAMBLE + 4 :] == META


def _has_name(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(PACKED)).suffix in NAMES


def _refuse_in(folder: Path) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        where = os.path.relpath(error.filename, folder)
        raise DataError(f"cannot be read: {error.strerror}", where=where) from error

    return refuse


def _head(path: Path, folder: Path) -> bytes:
    with parsing(str(path.relative_to(folder))), path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_damaged(path: Path, head: bytes, endings: Container[str]) -> bool:
    """Whether a file without the mark of DICOM should have it.

    Args:
        path: the file.
        head: how it begins.
        endings: those of the DICOM files beside it.
    """
    # A copy that was interrupted leaves nothing or zeros; some programs write no preamble.
    begun = not head.strip(b"\0") or head.startswith(FIRST_GROUPS)
    return _has_name(path) or head[PREAMBLE + 4 :] == META or (begun and _ending(path) in endings)


def _ending(path: Path) -> str:
    """The ending of a name; numbers are none, as in names that are unique identifiers."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """Whatever parsing or looking at tags raises, as an error that names the file alone.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with reading(name):
            yield
    except (CrossmodError, MemoryError):
        raise
    except RecursionError as error:
        raise DataError("its tags are nested too deeply", where=name) from error
    except Exception as error:
        what = f"is damaged: it cannot be parsed ({type(error).__name__})"
        raise DataError(what, where=name, fix="copy it again") from error


def read_tags(folder: Path, name: str, only: list[str] | None = None) -> Any:
    """The tags of a file up to its voxels, or some of them.

    Raises:
        DataError: it is damaged.
    """
    from pydicom import dcmread

    with parsing(name):
        return dcmread(folder / name, stop_before_pixels=True, specific_tags=only)


def parse(content: bytes, name: str) -> Any:
    """A file up to the end of its voxels; some are followed by megabytes of nothing.

    Raises:
        DataError: it is damaged.
    """
    from pydicom.filereader import read_partial

    seen = False

    def done(tag: int, *_: object) -> bool:
        nonlocal seen
        ended, seen = seen, tag == VOXELS
        return ended

    with parsing(name):
        dataset = read_partial(BytesIO(content), stop_when=done)
        _check_voxels(dataset, name)
    return dataset


def _check_voxels(dataset: Any, name: str) -> None:
    if "PixelData" not in dataset:
        what = f"has no {tag_name('PixelData')}: it is truncated or not an image"
        raise DataError(what, where=name, fix="copy it again, or move it elsewhere")
    voxels = dataset.get_item(VOXELS)  # pydicom takes what there is
    if voxels.length not in (len(voxels.value or b""), UNDEFINED):
        what = f"{tag_name('PixelData')} is truncated: it has {len(voxels.value or b'')} bytes"
        raise DataError(what, where=name, allowed=f"{voxels.length}", fix="copy it again")
