"""Which files of a folder are DICOM, and how they are parsed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from crossmod.errors import DataError
from crossmod.intake.dicom.tags import tag_name

NAMES = (".dcm", ".dicom", ".ima")
"""Endings that promise DICOM."""

VOXELS = 0x7FE00010
"""The tag of PixelData."""

UNDEFINED = 0xFFFFFFFF
"""A length that a delimiter says instead; compressed voxels have it."""

PREAMBLE, MAGIC, FIRST_GROUP = 128, b"DICM", b"\x02\x00"


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
        DataError: names all files that should be DICOM and do not begin so.
    """
    found: list[str] = []
    damaged: list[str] = []
    links = 0
    for place, folders, names in os.walk(folder):
        links += sum((Path(place) / name).is_symlink() for name in folders)
        for path in (Path(place) / name for name in names if not name.startswith(".")):
            if path.is_symlink():
                links += 1
            elif path.is_file():
                _sort_in(path, str(path.relative_to(folder)), found, damaged)
    if damaged:
        raise DataError(
            f"has files that should be DICOM and do not begin so: {listed(sorted(damaged))}",
            fix="copy them again, or move what is no slice away",
        )
    return sorted(found), links


def _sort_in(path: Path, name: str, found: list[str], damaged: list[str]) -> None:
    with path.open("rb") as file:
        head = file.read(PREAMBLE + 6)
    if head[PREAMBLE : PREAMBLE + 4] == MAGIC:
        found.append(name)
    elif name.lower().endswith(NAMES) or head[PREAMBLE + 4 :] == FIRST_GROUP:
        damaged.append(name)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Some names and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """Whatever a parser raises, as an error that names the file and quotes nothing.

    Raises:
        DataError: the file is damaged.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except RecursionError as error:
        raise DataError("its tags are nested too deeply", where=name) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=name) from error
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
    if "PixelData" not in dataset:
        what = f"has no {tag_name('PixelData')}: it is cut short, or no image"
        raise DataError(what, where=name, fix="copy it again, or move it away")
    voxels = dataset.get_item(VOXELS)  # pydicom takes what there is
    if voxels.length not in (len(voxels.value or b""), UNDEFINED):
        what = f"{tag_name('PixelData')} is cut short: it has {len(voxels.value or b'')} bytes"
        raise DataError(what, where=name, allowed=f"{voxels.length}", fix="copy it again")
    return dataset
