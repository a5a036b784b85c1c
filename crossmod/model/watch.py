"""Scans that come into folders one by one: each is taken once it is complete.

The folders are looked at about once a second, which works on disks of any network.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from crossmod.errors import CrossmodError
from crossmod.intake import ScanFile, find_arrived

LOOK_S = 1.0
"""How long to wait between two looks, at least; and as long as a look takes."""

SETTLED_S = 3.0
"""How long nothing of a scan may have changed before it counts as complete."""

Content = tuple[tuple[str, int, int], ...]
"""Path, size and time of change of every file of an entry."""


class Arrivals:
    """The scans in folders, and all that come into them.

    What is wrong with an entry is told once, until its content changes.

    Args:
        folders: where scans appear: image files, folders of DICOM files, folders of patients.
        ending: what names of scans end with.
        series: which series of folders of DICOM files.
        wants: whether a scan is to be outlined, ``again`` if it was looked at before and has
            changed since; it may raise a CrossmodError, which is told.
        tell: takes a line about what is odd.
        check: called at every look; what it raises ends the wait.
    """

    ended = False

    def __init__(
        self,
        folders: Sequence[Path],
        ending: str,
        series: str,
        wants: Callable[[ScanFile, bool], bool],
        tell: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._folders, self._ending, self._series = folders, ending, series
        self._wants, self._tell, self._check = wants, tell, check
        self._complete: deque[ScanFile] = deque()
        self._settling: dict[Path, tuple[Content, float]] = {}
        self._seen: dict[Path, Content] = {}
        self._cases: dict[str, Path] = {}
        self._lost: set[Path] = set()

    def next(self, *, wait: bool) -> ScanFile | None:
        """The next scan that is complete; without ``wait`` None if there is none."""
        while True:
            started = time.monotonic()
            self._check()
            if not self._complete:
                self._look()
            if self._complete:
                return self._complete.popleft()
            if not wait:
                return None
            time.sleep(max(LOOK_S, time.monotonic() - started))

    def _look(self) -> None:
        for entry, content in self._entries():
            if self._seen.get(entry) == content:
                continue
            before, since = self._settling.get(entry, ((), 0.0))
            if before != content:
                self._settling[entry] = content, time.monotonic()
            elif time.monotonic() - since >= SETTLED_S:
                del self._settling[entry]
                again = entry in self._seen
                self._seen[entry] = content
                self._take(entry, again)

    def _take(self, entry: Path, again: bool) -> None:
        """Put the scans of an entry where `next` finds them."""
        try:
            for scan in find_arrived(entry, self._ending, self._series, self._note):
                other = self._cases.setdefault(scan.case, scan.path)
                if other != scan.path:
                    self._note(f"{scan.path}: the name '{scan.case}' is already used by {other}")
                elif self._wants(scan, again):
                    self._complete.append(scan)
        except CrossmodError as error:
            self._note(str(error))

    def _note(self, text: str) -> None:
        self._tell(f"note: {text}; skipped")

    def _entries(self) -> Iterator[tuple[Path, Content]]:
        """What lies in the folders and is not hidden, with its content, if any."""
        for folder in self._folders:
            try:
                names = sorted(path for path in folder.iterdir() if path.name[0] != ".")
                self._lost.discard(folder)
            except OSError as error:  # a network that comes back
                if folder not in self._lost:
                    self._lost.add(folder)
                    self._tell(f"warning: {folder}: {error.strerror}; waiting for it")
                continue
            for entry in names:
                if content := _content(entry):
                    yield entry, content


def _content(entry: Path) -> Content:
    """What an entry holds now; nothing where it is going away."""
    try:
        files = [entry] if entry.is_file() else sorted(entry.rglob("*"))
        found = [(str(one), one.stat()) for one in files if one.is_file()]
    except OSError:
        return ()
    return tuple((name, about.st_size, about.st_mtime_ns) for name, about in found)
