"""The ledger of a folder: which command wrote which of its files, as they were then.

It is the file `.crossmod`, with a line of JSON for each content of each file.
"""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from crossmod.files.atomic import append_line

LEDGER = ".crossmod"
"""The file in which a folder lists what crossmod wrote into it."""

ITSELF = "."
"""How a ledger names the folder itself, where the whole of it is a command's own."""

Digests = defaultdict[tuple[str, str], set[str]]


def read_ledger(folder: Path) -> Digests:
    """(Command, name) -> the SHA-256 digests noted of it, in the order of the first of each."""
    found: Digests = defaultdict(set)
    if ledger_fault(folder):
        return found
    try:
        lines = (folder / LEDGER).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return found
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # a line that a full disk cut short
            row = json.loads(line)
            found[str(row["by"]), str(row["file"])].add(str(row["sha256"]))
    return found


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
