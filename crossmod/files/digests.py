"""SHA-256 of files: by which results, inputs and code are known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path


def digest_of(path: Path) -> str:
    """The sha256 of a file, or of the digests of the files of a folder, whatever they are called.

    In a folder, links and hidden files do not count: whoever reads it passes them over.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> for name in ("one/a.dcm", "two/b.dcm", "two/.hidden"):
        ...     Path(name).parent.mkdir(exist_ok=True)
        ...     written = Path(name).write_bytes(b"voxels")
        >>> digest_of(Path("one")) == digest_of(Path("two"))
        True
        >>> digest_of(Path("one")) == digest_of(Path("one/a.dcm"))
        False
    """
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.name[0] != "." and not file.is_symlink())
        inside = sorted(digest_of(file) for file in files if file.is_file())
        return digest_of_bytes("".join(inside))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_on_disk(path: Path) -> str:
    """The sha256 of a file, read from the disk where the system lets its cache be dropped.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(files: Sequence[Path]) -> str:
    """One sha256 of the contents of files, in order.

    Raises:
        ValueError: there are none, so that the digest would be that of nothing.
    """
    if not files:
        raise ValueError("no files to digest")
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def digest_of_bytes(content: bytes | str) -> str:
    """The sha256 of bytes, or of a text in UTF-8."""
    raw = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(raw).hexdigest()
