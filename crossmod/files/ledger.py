"""The ledger of a folder: which command wrote which of its files, as they were then.

It is the file `.crossmod`, with a line of JSON for each content of each file.
"""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from crossmod.files.atomic import append_line

LEDGER = ".crossmod"
"""The file in which a folder lists what crossmod wrote into it."""

ITSELF = "."
"""How a ledger names the folder itself, where the whole of it is a command's own."""

Digests = defaultdict[tuple[str, str], set[str]]


def read_ledger(folder: Path) -> Digests:
    """(Command, name) -> the SHA-256 digests noted of it, in the order of the first of each."""
    return Ledger(folder).read()


@dataclass
class Ledger:
    """What a ledger says; of one that has grown, only the new lines are read.

    Attributes:
        folder: whose ledger it is.
    """

    folder: Path
    _found: Digests = field(default_factory=lambda: defaultdict(set), init=False)
    _inode: int = field(default=0, init=False)
    _end: int = field(default=0, init=False)

    def read(self) -> Digests:
        """(Command, name) -> digests, in the order of the first of each."""
        if ledger_fault(self.folder):
            return defaultdict(set)
        try:
            with (self.folder / LEDGER).open("rb") as file:
                lines = self._new_lines(file)
        except (OSError, ValueError):
            self._begin(0)
            return self._found
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):  # a line that a full disk cut short
                row = json.loads(line)
                self._found[str(row["by"]), str(row["file"])].add(str(row["sha256"]))
        return self._found

    def _new_lines(self, file: BinaryIO) -> list[str]:
        """The lines after those that were read; the last may be half a line, and comes again."""
        about = os.fstat(file.fileno())
        if about.st_ino != self._inode or about.st_size < self._end:
            self._begin(about.st_ino)
        file.seek(self._end)
        content = file.read()
        lines = content.decode("utf-8").splitlines()
        self._end += content.rfind(b"\n") + 1
        return lines

    def _begin(self, inode: int) -> None:
        """Take it for a file that nothing of was read."""
        self._found, self._inode, self._end = defaultdict(set), inode, 0


def add_to_ledger(folder: Path, command: str, name: str, digest: str) -> None:
    """Note what a command is about to write.

    Raises:
        OSError: the disk is full, for instance, or the ledger is a link.
    """
    append_line(folder / LEDGER, {"by": command, "file": name, "sha256": digest})


def owner_of(folder: Path) -> str | None:
    """The command whose own a folder is."""
    return next((by for by, name in read_ledger(folder) if name == ITSELF), None)


def ledger_fault(folder: Path) -> str:
    """Why what has the name of the ledger cannot be one; empty where nothing speaks against it."""
    try:
        mode = os.lstat(folder / LEDGER).st_mode
    except OSError:  # nothing is there
        return ""
    if stat.S_ISLNK(mode):
        return "is a link"
    return "" if stat.S_ISREG(mode) else "is not a regular file"
