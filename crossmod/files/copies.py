"""Copies of files that share their blocks on the disk, where it can, until one of them changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

AT_ONCE = 1 << 30
"""Bytes that the system is asked to copy at once."""


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file another name; a copy where the file system of the target is another.

    Raises:
        OSError: it cannot be read, or the target exists or cannot be written.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file to a new one; links are followed.

    On Linux the system copies, which file systems such as Btrfs and XFS do without moving a byte.

    Raises:
        OSError: one cannot be read, or the other exists or cannot be written.
    """
    with source.open("rb") as old, target.open("xb") as new:
        if hasattr(os, "copy_file_range"):
            try:
                while os.copy_file_range(old.fileno(), new.fileno(), AT_ONCE):
                    pass
                return
            except OSError:  # between file systems, for instance
                old.seek(0)
                new.seek(0)
                new.truncate()
        shutil.copyfileobj(old, new)
