"""Content-addressed results: published whole or not at all, verified before use.

An entry is a folder named by its key. Its manifest, written last, holds the digest of every file.
Nothing inside knows where the store lies, so a store can be moved or shared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from crossmod.errors import MachineError

MANIFEST = "manifest.json"


class Store:
    """A folder of published results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where the entry with this key lies, whether or not it exists."""
        return self.folder / key[:2] / key

    def manifest(self, key: str) -> dict[str, Any] | None:
        """The manifest of an entry whose files are all there in full size, else None."""
        try:
            content: dict[str, Any] = json.loads((self.path(key) / MANIFEST).read_text("utf-8"))
            whole = all(
                (self.path(key) / name).stat().st_size == file["bytes"]
                for name, file in content["files"].items()
            )
        except (OSError, ValueError, KeyError):
            return None
        return content if whole else None

    def damaged(self, key: str) -> list[str]:
        """The files of an entry whose content is not what was published."""
        content = self.manifest(key)
        if content is None:
            return [MANIFEST]
        root = self.path(key)
        files: Mapping[str, Mapping[str, Any]] = content["files"]
        return [name for name, file in files.items() if _digest(root / name) != file["sha256"]]

    def quarantine(self, key: str) -> Path | None:
        """Move an entry out of the way; returns where to, or None if there was none."""
        entry = self.path(key)
        if not entry.exists():
            return None
        aside = self.folder / "quarantine" / f"{key}-{uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        entry.rename(aside)
        return aside

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the right to compute an entry; other processes wait."""
        locks = self.folder / "locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / f"{key}.lock"):
            yield

    @contextmanager
    def publish(self, key: str, note: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to write into; it becomes the entry when the block ends without error.

        Args:
            key: the content key.
            note: what the manifest says of the step, besides the files.
        """
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{key}.{os.getpid()}.{uuid4().hex[:8]}")
        draft.mkdir()
        try:
            yield draft
            self._seal(draft, note)
            if target.exists():
                self.quarantine(key)  # the lock is ours: what lies there is incomplete
            draft.rename(target)
            _sync(target.parent)
        except OSError as error:
            raise MachineError(
                f"cannot write a result: {error.strerror or error}",
                where=str(error.filename or target),
                fix="free space or choose another folder with --store, then run again",
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _seal(self, draft: Path, note: Mapping[str, Any]) -> None:
        files = {}
        for path in sorted(p for p in draft.rglob("*") if p.is_file()):
            _sync(path)
            path.chmod(0o444)  # run folders link to these files; nobody should edit them in place
            name = path.relative_to(draft).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        text = json.dumps({**note, "files": files}, indent=1) + "\n"
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        _sync(draft / MANIFEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
