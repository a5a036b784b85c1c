"""What lies in a store, and the removal of what no run refers to.

Everything that goes is first renamed to a draft, so that half of it is never taken for a whole.
That happens while the registry is locked: a run that begins meanwhile waits, then makes what it
lacks. Deleting takes longer and needs no lock; what a killed collector left, the next deletes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from crossmod.errors import MachineError
from crossmod.faults import point
from crossmod.files.atomic import draft_of, read_manifest
from crossmod.store.runs import LOCK, KnownRun, known_runs, records_folder
from crossmod.store.store import LEASE_S, Store

KEY = re.compile(r"[0-9a-f]{40}")
DRAFT = re.compile(r"\.(\w+)\.\d+\.[0-9a-f]{8}")
"""What `entries.published` writes into."""


@dataclass
class Contents:
    """What lies in a store; looked up once.

    Attributes:
        store: where.
    """

    store: Store

    @cached_property
    def results(self) -> list[str]:
        """The keys of results."""
        names = sorted(path.name for path in self._shelves("[0-9a-f]*"))
        return [name for name in names if KEY.fullmatch(name)]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Key -> bytes of a result, as the manifest says; half a result is measured."""
        return {key: self._bytes(key) for key in self.results}

    @cached_property
    def drafts(self) -> dict[str, list[Path]]:
        """Key -> folders of results that are being made, or that a killed program left."""
        found = defaultdict(list)
        for path in [*self._shelves(".*"), *self._states]:
            if draft := DRAFT.fullmatch(path.name):
                found[draft[1]].append(path)
        return found

    @cached_property
    def checkpoints(self) -> dict[str, Path]:
        """Key -> folder with the states of a training."""
        return {path.name: path for path in self._states if not path.name.startswith(".")}

    @cached_property
    def _states(self) -> list[Path]:
        return inside(self.store.folder / "checkpoints")

    @cached_property
    def quarantine(self) -> list[Path]:
        """What was found damaged."""
        return inside(self.store.folder / "quarantine")

    def unused(self, needed: Collection[str]) -> list[str]:
        """The results that no run needs and whose removal frees space.

        Args:
            needed: keys that runs refer to.
        """
        return [key for key in self.results if key not in needed and not self._linked(key)]

    def _linked(self, key: str) -> bool:
        """Whether files of a result are in another folder too, a renamed run folder perhaps."""
        return any(file.st_nlink > 1 for file in _files(self.store.path(key)))

    def _shelves(self, pattern: str) -> Iterator[Path]:
        return self.store.folder.glob(f"[0-9a-f][0-9a-f]/{pattern}")

    def _bytes(self, key: str) -> int:
        entry = self.store.path(key)
        with suppress(KeyError, TypeError, AttributeError):  # no manifest, or a damaged one
            files = read_manifest(entry)["files"]
            if files.keys() <= _names(entry):  # asking a million files for their size takes long
                return sum(file["bytes"] for file in files.values())
        return bytes_in(entry)


@dataclass
class Removed:
    """What a collector removed, and what it left alone.

    Attributes:
        counts: kind -> how many.
        sizes: kind -> bytes.
        gone: folders of runs that have no record any more.
        busy: keys that somebody may be at work on.
        refused: what could not be removed, and why.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    gone: list[Path] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Collector:
    """Removes from a store what no run refers to and no live process owns.

    Args:
        store: where.
        quarantine: remove what was found damaged, too.
        dry_run: only find out what would go.
    """

    def __init__(self, store: Store, *, quarantine: bool = False, dry_run: bool = False) -> None:
        self.store, self.quarantine, self.dry_run = store, quarantine, dry_run
        self.removed = Removed()
        self._aside: list[Path] = []

    def collect(self) -> Removed:
        """Remove it.

        Raises:
            MachineError: a record cannot be read, or the store cannot be written.
        """
        if not self.store.writable:
            raise MachineError("cannot be written", where=str(self.store.folder))
        before = self._locks()
        if self.store.shared:
            self._outlive(before)
        with self.store.lock(LOCK):
            runs = readable_runs(self.store)
            self._sweep(runs)
            self._sweep_locks(before if self.dry_run else set())
        self._delete()
        return self.removed

    def _outlive(self, names: Collection[str]) -> None:
        """Among several machines, an owner is stale when its lease is not renewed for a minute."""

        def take_over(name: str) -> None:
            with self.store.try_lock(name, 1.5 * LEASE_S):
                pass  # released, the lock of a dead owner is gone

        with ThreadPoolExecutor(len(names) or 1) as pool:
            list(pool.map(take_over, names))

    def _sweep(self, runs: Iterable[KnownRun]) -> None:
        """Take away what may go."""
        point("sweep")
        needed = {key for run in runs if run.state != "gone" for key in run.keys}
        at_work = {key for run in runs if run.state == "running" for key in run.keys}
        found = Contents(self.store)
        unused = set(found.unused(needed))
        for key in sorted({*unused, *found.drafts, *found.checkpoints} - at_work):
            with self.store.try_lock(key) as free:
                if free:
                    self._sweep_key(key, found, key in needed, key in unused)
                else:
                    self.removed.busy.append(key)
        for path in found.quarantine if self.quarantine else ():
            self._drop("damaged results", path, path.name)
        for run in runs:
            if run.state == "gone":
                self.removed.gone.append(run.folder)
                self._forget(run.file)
        for draft in records_folder(self.store).glob(".*"):  # of a run killed as it began
            self._forget(draft)

    def _sweep_key(self, key: str, found: Contents, needed: bool, unused: bool) -> None:
        """Look at one key, whose lock is held."""
        states = found.checkpoints.get(key)
        drafts = found.drafts.get(key, [])
        if states and (not needed or self.store.manifest(key) is not None):
            self._drop("checkpoints", states, key)
        elif states:
            drafts = drafts + [path for path in inside(states) if DRAFT.fullmatch(path.name)]
        for path in drafts:
            self._drop("drafts", path, key)
        if unused:
            self._drop("results", self.store.path(key), key)

    def _drop(self, kind: str, path: Path, key: str) -> None:
        size = bytes_in(path)
        if not self.dry_run:
            point("drop")
            aside = draft_of(path.with_name(key))
            try:
                path.rename(aside)
            except FileNotFoundError:  # another collector was faster
                return
            except OSError as error:  # another user's, for instance
                self.removed.refused.append(f"{path}: {error.strerror}")
                return
            self._aside.append(aside)
        self.removed.counts[kind] += 1
        self.removed.sizes[kind] += size

    def _forget(self, record: Path) -> None:
        if not self.dry_run:
            record.unlink(missing_ok=True)

    def _locks(self) -> set[str]:
        return {path.stem for path in inside(self.store.folder / "locks")}

    def _sweep_locks(self, kept: set[str]) -> None:
        """Remove the files of locks nobody holds; who waits for one of them takes a new one."""
        for name in self._locks() - kept:
            with self.store.try_lock(name) as free:
                if free:
                    (self.store.folder / "locks" / f"{name}.lock").unlink(missing_ok=True)

    def _delete(self) -> None:
        for path in self._aside:
            point("delete")
            shutil.rmtree(path, ignore_errors=True)  # another collector may be at it too
            if path.exists():
                self.removed.refused.append(str(path))


def readable_runs(store: Store) -> list[KnownRun]:
    """The runs of a store, if all records can be read.

    Raises:
        MachineError: one cannot, so the results it needs are unknown.
    """
    runs, unreadable = known_runs(store)
    if unreadable:
        raise MachineError(
            "the record of a run cannot be read, so the results it needs are unknown",
            where=", ".join(map(str, unreadable)),
            fix="rerun its recipe, or delete the file if you do not need the run",
        )
    return runs


def inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def bytes_in(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(file.st_size for file in _files(folder))


def _names(folder: Path) -> set[str]:
    """The names of all files below a folder, relative to it."""
    start = len(str(folder)) + 1
    return {f"{place}/{name}"[start:] for place, _, names in os.walk(folder) for name in names}


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a run may be at work here
                yield (Path(place) / name).lstat()
