"""Content-addressed results, found by key and verified before use.

Nothing inside knows where the store lies, so a store can be moved or shared. Beside the results
lie the checkpoints of unfinished training, locks, and what was found damaged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from crossmod.errors import writing
from crossmod.files.atomic import damaged_files, manifest_of, published
from crossmod.files.ledger import owner_of
from crossmod.files.outputs import Inputs, Outputs

OWNER = "a store of results"
"""How the ledger of a folder says that it is a store."""

SHARED_DISKS = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "afs", "fuse", "panfs")
"""File systems of several machines, where an operating system's own lock does not always hold."""

LEASE_S = 60.0
"""After this number of seconds without a sign of life, the owner of a lock is considered dead."""


class Store:
    """A folder of published results.

    Args:
        folder: made if it does not exist.
        make: whether to make it; one that is not there yet is empty, and nothing can be added.
        shared: whether several machines work in it; None asks the file system. Locks are then
            files whose owner shows that it is alive.

    Raises:
        DataError: the folder holds something else.
        MachineError: the folder cannot be made.
    """

    def __init__(self, folder: Path, shared: bool | None = None, *, make: bool = True) -> None:
        self.folder = folder.absolute()
        if make:
            _outputs(self.folder, Inputs()).claim()
        self.shared = _on_shared_disk(self.folder) if shared is None else shared

    @property
    def writable(self) -> bool:
        """Whether anything can be added."""
        return is_store(self.folder) and os.access(self.folder, os.W_OK)

    def path(self, key: str) -> Path:
        """Where the entry with this key lies, whether or not it exists."""
        return self.folder / key[:2] / key

    def checkpoints(self, key: str) -> Path:
        """Where the checkpoints of an unfinished entry lie."""
        return self.folder / "checkpoints" / key

    def manifest(self, key: str) -> dict[str, Any] | None:
        """The manifest of an entry whose files are all there in full size, else None."""
        return manifest_of(self.path(key))

    def damaged(self, key: str) -> list[str]:
        """The files of an entry whose content is not what was published."""
        return damaged_files(self.path(key))

    def quarantine(self, key: str) -> Path | None:
        """Move an entry out of the way; returns where to, or None if there was none."""
        entry = self.path(key)
        aside = self.folder / "quarantine" / f"{key}-{uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        try:
            entry.rename(aside)
        except FileNotFoundError:  # none, or somebody else was faster
            return None
        return aside

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the right to compute an entry; other processes wait.

        Args:
            key: of the entry.
            waiting: called once where another process holds it.
        """
        lock = self._lock(key)
        with self._writing():
            try:
                lock.acquire(blocking=False)
            except Timeout:
                waiting()
                lock.acquire(poll_interval=0.1)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def try_lock(self, key: str, patience_s: float = 0.0) -> Iterator[bool]:
        """Hold the right to compute an entry if nobody else does; yields whether that is so.

        Args:
            key: of the entry.
            patience_s: wait so long; beyond `LEASE_S`, dead owners on other machines are noticed.
        """
        lock = self._lock(key)
        try:
            lock.acquire(timeout=patience_s, poll_interval=0.5)
        except OSError:  # held; or another user's, and not to be looked into
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def busy(self, key: str) -> bool:
        """Whether a live process is computing an entry."""
        with self.try_lock(key) as free:
            return not free

    def publish(self, key: str, note: Mapping[str, Any]) -> AbstractContextManager[Path]:
        """A folder to write into; it becomes the entry when the block ends without error.

        Args:
            key: the content key.
            note: what the manifest says of the step, besides the files.
        """
        return published(self.path(key), note)

    def _lock(self, key: str) -> BaseFileLock:
        locks = self.folder / "locks"
        with self._writing():
            locks.mkdir(exist_ok=True)
            if self.shared:
                return SoftFileLease(locks / f"{key}.lease", lease_duration=LEASE_S)
            return FileLock(locks / f"{key}.lock")

    def _writing(self) -> AbstractContextManager[None]:
        fix = "free up disk space, or choose another folder with --store"
        return writing(self.folder, "results cannot be written", fix)


def require_store(folder: Path, inputs: Inputs) -> None:
    """Refuse a folder that neither is a store nor can become one.

    Args:
        folder: the store.
        inputs: what the command reads besides.

    Raises:
        DataError: it holds something else, or is part of what is read.
    """
    _outputs(folder, inputs).require_claim()


def is_store(folder: Path) -> bool:
    """Whether a folder is a store."""
    return owner_of(folder) == OWNER


def _outputs(folder: Path, inputs: Inputs) -> Outputs:
    return Outputs(folder, OWNER, inputs)


def _on_shared_disk(folder: Path) -> bool:
    """Whether a folder is mounted from elsewhere, as far as Linux says."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return False
    holding = [row for row in rows if folder.resolve().is_relative_to(row[1])]
    kind = max(holding, key=lambda row: len(row[1]))[2] if holding else ""
    return kind.startswith(SHARED_DISKS)
