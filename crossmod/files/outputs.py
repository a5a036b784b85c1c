"""What commands write: only what is new, or what the same command wrote before.

The one place that decides it, for every output of every command. No command writes over what it
reads, whatever name or link leads there, nor over what it did not write itself. That is known from
a ledger, the file `.crossmod` in a folder: the name and the SHA-256 of each file, and which command
wrote it. A line is added before its file appears, so that a killed command knows its files again;
a file that somebody changed has another digest and counts as theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crossmod.errors import DataError, writing
from crossmod.faults import point
from crossmod.files.atomic import drafted, sync, sync_all
from crossmod.files.digests import digest_on_disk
from crossmod.files.ledger import (
    ITSELF,
    LEDGER,
    Ledger,
    add_to_ledger,
    ledger_fault,
    owner_of,
    read_ledger,
)

ENDINGS = (
    ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".dcm", ".csv", ".json",
    ".toml", ".html", ".tex", ".safetensors",
)  # fmt: skip
"""What names of files end with, and names of folders do not."""

Identity = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """What a command reads.

    Attributes:
        files: nothing is written over them.
        listed: folders whose files are read; nothing is written straight into them.
        searched: folders that are read with all below; nothing is written anywhere in them.
    """

    files: tuple[Path, ...] = ()
    listed: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()

    def refuse_place(self, folder: Path) -> None:
        """Refuse a folder to write into where that would mix with what is read.

        Raises:
            DataError: it would.
        """
        around = _ancestry(folder)
        found = [one for one in self.listed if _same(around[0], one)]
        found += [one for one in self.searched if any(_same(place, one) for place in around)]
        if found:
            raise DataError(
                f"would write into what the command reads: {found[0]}",
                where=str(folder),
                fix="name a folder outside of it",
            )

    def refuse_around(self, folder: Path) -> None:
        """Refuse a folder that holds what is read, where all of it is to be a command's own.

        Raises:
            DataError: it does.
        """
        for one in (*self.files, *self.listed, *self.searched):
            if any(_same(place, folder) for place in _ancestry(one)):
                raise DataError(
                    f"holds what the command reads: {one}",
                    where=str(folder),
                    fix="name another folder",
                )

    def __contains__(self, path: Path) -> bool:
        return _identity(path) in self._identities

    @cached_property
    def _identities(self) -> set[Identity]:
        return {found for path in self.files if (found := _identity(path))}


NOTHING = Inputs()


def require_new(folder: Path, inputs: Inputs = NOTHING) -> None:
    """Refuse a folder to make that holds something, is called like a file, or lies in an input.

    Raises:
        DataError: it does.
    """
    with writing(folder):
        _require_place(folder)
        if any(_inside(folder)):
            raise DataError(
                "exists already and is not empty", where=str(folder), fix="name a new folder"
            )
    inputs.refuse_place(folder)


@contextmanager
def new_folder(folder: Path, inputs: Inputs = NOTHING) -> Iterator[Path]:
    """A folder to write into; it becomes ``folder``, absent or empty, when the block ends well.

    Raises:
        DataError: as `require_new`.
        MachineError: something cannot be written.
    """
    require_new(folder, inputs)
    with writing(folder), drafted(folder) as draft:
        yield draft
        sync_all(draft)
        require_new(folder, inputs)
        draft.rename(folder)
        sync(folder.parent)


@dataclass
class Outputs:
    """Files that a command writes into a folder.

    Attributes:
        folder: made where it is missing.
        command: who writes, as messages and the ledger name it, e.g. "crossmod predict".
        inputs: what it reads.
    """

    folder: Path
    command: str
    inputs: Inputs = NOTHING

    def below(self, name: str) -> Outputs:
        """What the same command writes into a folder inside, or into this one without a name."""
        return Outputs(self.folder / name, self.command, self.inputs)

    def require(self, names: Iterable[str], *, fix: str = "name another folder") -> None:
        """Refuse, before any work, files that could not be written; names all of them.

        Raises:
            DataError: files are read by the command, or are not its own; or it is not a folder.
        """
        _require_place(self.folder, self.command)
        self.inputs.refuse_place(self.folder)
        self._require_free(names, fix)

    def _require_free(self, names: Iterable[str], fix: str) -> None:
        problems = [f"{self.folder / name}: {why}" for name in names if (why := self._fault(name))]
        if problems:
            raise DataError("\n".join(["would not write over these files:", *problems]), fix=fix)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A file to write; it becomes the one of that name when the block ends well.

        A device or a pipe just takes it.

        Raises:
            DataError: the file of that name is read by the command, or is not its own.
            MachineError: it cannot be written.
        """
        target = self.folder / name
        with writing(target):
            if takes_all(target):
                yield target
                return
            with drafted(target) as room:  # a folder: writers go by the ending of a name
                draft = room / name
                yield draft
                point(f"write-{name}")
                sync(draft)
                self.note(name, digest_on_disk(draft))
                self._require_free([name], "name another folder")
                draft.replace(target)

    def owns(self, name: str) -> bool:
        """Whether the command wrote the file of that name, as it is now."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        return self._knows(name, digest_on_disk(path))

    def written(self) -> set[str]:
        """The names of the files that the command wrote into the folder, as they are now."""
        names = {name for by, name in read_ledger(self.folder) if by == self.command}
        return {name for name in names if self.owns(name)}

    def require_claim(self, *, fix: str = "name another folder") -> None:
        """Refuse a folder that is neither new nor empty nor the command's own.

        Hidden files do not count: systems put them anywhere.

        Raises:
            DataError: it belongs to someone else, or holds or is part of what the command reads.
        """
        _require_place(self.folder, self.command, fix)
        self.inputs.refuse_place(self.folder)
        if owner_of(self.folder) is None and any(
            path.name[0] != "." for path in _inside(self.folder)
        ):
            raise DataError(
                "is not empty, and crossmod did not make it",
                where=str(self.folder),
                fix="name a new folder",
            )
        self.inputs.refuse_around(self.folder)

    def claim(self) -> None:
        """Make the folder the command's own; of two that do so, the first has it.

        Raises:
            DataError: as `require_claim`.
            MachineError: the folder cannot be made or written.
        """
        self.require_claim()
        if owner_of(self.folder) is None:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self.note(ITSELF, "")
            self.require_claim()

    def _fault(self, name: str) -> str:
        """Why a file may not be written; empty where it may."""
        path = self.folder / name
        if path in self.inputs:
            return "the command reads it"
        if name == LEDGER:
            return "crossmod keeps its notes there"
        if not os.path.lexists(path) or takes_all(path) or self.owns(name):
            return ""
        if path.is_symlink():
            return "is a link"
        if path.is_dir():
            return "is a folder"
        return f"was not written by {self.command}, or was changed since"

    def note(self, name: str, digest: str) -> None:
        """Put into the ledger what a file that is about to appear will hold.

        Args:
            name: its path below the folder.
            digest: its SHA-256.

        Raises:
            OSError: the disk is full, for instance, or the ledger is a link.
        """
        if not self._knows(name, digest):
            add_to_ledger(self.folder, self.command, name, digest)

    def _knows(self, name: str, digest: str) -> bool:
        return digest in self._ledger.read().get((self.command, name), ())

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self.folder)


def _require_place(folder: Path, command: str = "", fix: str = "name another folder") -> None:
    """Refuse what is not a folder, lies in one of another command, or has no file for a ledger.

    Raises:
        DataError: it does.
    """
    _require_folder(folder)
    for place in _ancestry(folder):
        if (owner := owner_of(place)) not in (None, command):
            within = "" if _same(place, folder) else f"lies in {place}, which "
            raise DataError(f"{within}belongs to {owner}", where=str(folder), fix=fix)
    if fault := ledger_fault(folder):
        raise DataError(
            f"{fault}; crossmod keeps its notes in a file of this name",
            where=str(folder / LEDGER),
            fix="move it away, or name another folder",
        )


def _require_folder(folder: Path) -> None:
    """Refuse a file, a dangling link, and a name that only a file has.

    Raises:
        DataError: it is one.
    """
    if folder.is_dir():
        return
    if os.path.lexists(folder):
        raise DataError("is a file, not a folder", where=str(folder), fix="name a folder")
    if folder.name.lower().endswith(ENDINGS):
        raise DataError(
            "is named like a file; this names the folder to write into",
            where=str(folder),
            fix="name a folder",
        )


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def takes_all(path: Path) -> bool:
    """Whether what is written there goes elsewhere, as with /dev/null; nothing is replaced."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _ancestry(path: Path) -> list[Path]:
    """A path without links and all folders around it."""
    try:
        whole = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise DataError("leads nowhere: its links form a circle", where=str(path)) from error
    return [whole, *whole.parents]


def _same(one: Path, other: Path) -> bool:
    return (found := _identity(one)) is not None and found == _identity(other)


def _identity(path: Path) -> Identity | None:
    """What is one for all names of a file: links of any kind, letters of any case."""
    try:
        about = path.stat()
    except OSError:  # nothing is there
        return None
    return about.st_dev, about.st_ino
