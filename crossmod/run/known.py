"""Files whose digest is known from an earlier run, so that nothing reads them again.

A file counts as the same while its inode, size and both times are: whoever writes into it, or puts
another in its place, changes the time of change, which no program can set back. What is computed
does not depend on it, since a step that reads a scan compares its digest with the plan's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.data.folder import NIFTI, ending_of
from crossmod.errors import MachineError
from crossmod.files.atomic import write_file
from crossmod.files.digests import digest_of_bytes

SETTLED_S = 10.0
"""Files that changed more recently are not remembered: within a tick of the clock of a disk, two
changes look like one."""

Stamp = tuple[int, int, int, int]
"""Inode, bytes, and nanoseconds of the last write and the last change."""

Rows = dict[str, tuple[Stamp, str]]
"""Path below the data folder -> stamp and digest."""


@dataclass
class KnownFiles:
    """The digests of the files of a data folder.

    Only NIfTI files are remembered: scans of other formats may consist of several files.

    Attributes:
        root: the data folder.
        memory: the folder of what was seen before; None remembers nothing.
        files: those that a run may read.
        digests: file -> digest; what reads a file adds to it, then `keep` remembers that.
    """

    root: Path
    memory: Path | None
    files: Iterable[Path]
    digests: dict[Path, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        whole = [path for path in self.files if ending_of(path.name) in NIFTI]
        self._stamps = {path: stamp for path in whole if (stamp := _stamp(path))}
        self._rows = self._read() if self.memory else {}
        for path, stamp in self._stamps.items():
            if (known := self._rows.get(self._name(path))) and known[0] == stamp:
                self.digests[path] = known[1]

    def keep(self) -> None:
        """Remember the digests of files that did not change meanwhile; none if that fails."""
        if self.memory is None:
            return
        rows = dict(self._rows)
        latest = (time.time() - SETTLED_S) * 1e9
        for path, stamp in self._stamps.items():
            digest = self.digests.get(path)
            if digest and max(stamp[2:]) < latest and _stamp(path) == stamp:
                rows[self._name(path)] = stamp, digest
        if rows != self._rows:
            with suppress(OSError, MachineError):
                self.memory.mkdir(parents=True, exist_ok=True)
                write_file(self._place(self.memory), json.dumps(rows))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _place(self, memory: Path) -> Path:
        return memory / f"files-{digest_of_bytes(str(self.root))[:16]}.json"

    def _read(self) -> Rows:
        assert self.memory
        with suppress(OSError, ValueError, TypeError, AttributeError):
            rows = json.loads(self._place(self.memory).read_text(encoding="utf-8"))
            return {str(name): (_row(stamp), str(digest)) for name, (stamp, digest) in rows.items()}
        return {}


def _row(stamp: Iterable[int]) -> Stamp:
    inode, size, written, changed = stamp
    return inode, size, written, changed


def _stamp(path: Path) -> Stamp | None:
    try:
        about = path.stat()
    except OSError:  # reading it says why
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
