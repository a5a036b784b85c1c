"""Folders and files that appear whole or not at all.

What is new is written beside its place and renamed once it is on the disk. An entry gets a manifest
last, with the digest of every file; nothing inside says where the entry lies or when it was made.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from crossmod.errors import MachineError, PluginError, remedy, writing
from crossmod.faults import point
from crossmod.files.digests import digest_on_disk

MANIFEST = "manifest.json"

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EFBIG)


def read_manifest(entry: Path) -> dict[str, Any]:
    """What the manifest of an entry says, whatever became of its files; empty if there is none."""
    with suppress(OSError, ValueError):
        content = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def manifest_of(entry: Path) -> dict[str, Any] | None:
    """The manifest of an entry whose files are all there in full size, else None."""
    content, root = read_manifest(entry), str(entry)
    try:
        whole = all(  # texts, since a store may hold a million files
            os.stat(f"{root}/{name}").st_size == file["bytes"]  # noqa: PTH116
            for name, file in content["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return content if whole else None


def damaged_files(entry: Path) -> list[str]:
    """The files of an entry whose content is not what was published."""
    content = manifest_of(entry)
    if content is None:
        return [MANIFEST]
    files: Mapping[str, Mapping[str, Any]] = content["files"]
    return [name for name, file in files.items() if digest_on_disk(entry / name) != file["sha256"]]


@contextmanager
def published(target: Path, note: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write into; it becomes the entry when the block ends without error.

    Where a whole entry lies there by then, it stays: two that made the same made it twice.

    Args:
        target: where the entry shall lie.
        note: what the manifest says besides the files.

    Raises:
        MachineError: the disk is full, broken or read-only.
        PluginError: the folder holds something that cannot be kept.

    Example:
        >>> with published(Path("entry"), {"step": "demo"}) as folder:
        ...     written = (folder / "volumes.txt").write_text("1 2 3")
        >>> damaged_files(Path("entry"))
        []
        >>> manifest_of(Path("entry"))["files"]["volumes.txt"]["bytes"]
        5
    """
    draft = draft_of(target)
    try:
        draft.mkdir(parents=True)
        point("draft")
        yield draft
        point("written")
        _seal(draft, note)
        point("sealed")
        _settle(draft, target)
        point("published")
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise _cannot_write(error, target, draft) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A new folder beside a target; what is not moved out of it by the end of the block is lost."""
    draft = draft_of(target)
    try:
        draft.mkdir(parents=True)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def draft_of(target: Path) -> Path:
    """A name beside a target that nobody else takes, in other threads and on other machines too."""
    return target.with_name(f".{target.name}.{os.getpid()}.{uuid4().hex[:8]}")


def _seal(draft: Path, note: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(draft.rglob("*")):
        name = path.relative_to(draft).as_posix()
        _require_keepable(path, name)
        if path.is_dir():
            continue
        sync(path)
        path.chmod(0o444)  # run folders link to these files; nobody should edit them in place
        files[name] = {"bytes": path.stat().st_size, "sha256": digest_on_disk(path)}
    text = json.dumps({**note, "files": files}, indent=1) + "\n"
    (draft / MANIFEST).write_text(text, encoding="utf-8")
    sync(draft / MANIFEST)


def _require_keepable(path: Path, name: str) -> None:
    """Only a plugin writes into such a folder what the core would not.

    Raises:
        PluginError: a result would depend on what lies elsewhere, or hide the manifest.
    """
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "is a link" if stat.S_ISLNK(mode) else "is not a regular file"
        raise PluginError(f"'{name}' in its folder {what}", allowed="files and folders")
    if name == MANIFEST:
        raise PluginError(f"'{name}' in its folder has a name that the store needs")


def _settle(draft: Path, target: Path) -> None:
    if manifest_of(target) is not None:
        return
    if target.exists():
        shutil.rmtree(target)  # half an entry, of a program that did not write beside it
    with suppress(FileExistsError):  # somebody was a moment faster
        draft.rename(target)
    sync(target.parent)


def _cannot_write(error: OSError, target: Path, draft: Path) -> MachineError:
    written = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    with suppress(OSError):
        free = shutil.disk_usage(target.parent).free
        text = f"{written / 1e6:.1f} MB of this result were written, {free / 1e6:.1f} MB are free"
        return MachineError(
            f"cannot write a result: {error.strerror or error}; {text}",
            where=str(error.filename or target),
            fix=f"{remedy(error, 'another folder with --store')}; then rerun to resume",
        )
    return MachineError(f"cannot write a result: {error.strerror}", where=str(target))


def write_file(path: Path, content: str) -> None:
    """Write a text as UTF-8, whole or not at all.

    Raises:
        MachineError: the disk is full, broken or read-only.
    """
    draft = draft_of(path)
    with writing(path):
        try:
            draft.write_text(content, encoding="utf-8")
            point(f"write-{path.name}")
            sync(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add a JSON line to a log; a link of this name is not followed.

    Raises:
        OSError: the disk is full, for instance, or the log is a link.
    """
    point(f"append-{path.name}")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def sync_all(folder: Path) -> None:
    """Wait until all files in a folder, and below it, are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            sync(path)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
