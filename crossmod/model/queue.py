"""Scans on their way through the folds of a model: one is read while the network has another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from crossmod.data.form import Form
from crossmod.data.grids import Grid, Preprocess, to_common
from crossmod.data.volumes import Volume
from crossmod.errors import CrossmodError, DataError, MachineError
from crossmod.intake import Intake, Loaded, NotAScan, ScanFile, few_values, load_scan
from crossmod.model.facts import MODEL_FILE


class Source(Protocol):
    """Where scans come from."""

    def next(self, *, wait: bool) -> ScanFile | None:
        """The next scan, or None.

        Args:
            wait: return when there is one, or when there will be none; else at once.
        """

    @property
    def ended(self) -> bool:
        """Whether there will be no more."""


class Listed:
    """Scans that are known from the start."""

    def __init__(self, scans: Iterable[ScanFile]) -> None:
        self._scans = deque(scans)

    def next(self, *, wait: bool) -> ScanFile | None:
        """The next scan."""
        del wait
        return self._scans.popleft() if self._scans else None

    @property
    def ended(self) -> bool:
        """Whether all were taken."""
        return not self._scans


@dataclass(frozen=True)
class Taken:
    """A scan that was read.

    Attributes:
        scan: the scan.
        grid: its own grid.
        form: how its header says where it lies; None of DICOM.
        remarks: what was odd about the file and could be mended.
    """

    scan: ScanFile
    grid: Grid
    form: Form | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """A scan without outlines, and why."""

    scan: ScanFile
    error: CrossmodError


@dataclass(frozen=True)
class _Reading:
    """A scan that another thread reads."""

    scan: ScanFile
    future: Future[tuple[Taken, Volume]]


@dataclass
class Queue:
    """Scans on their way through the folds, in order.

    In its block, a thread reads the scan that comes next, and no other.

    Attributes:
        source: where they come from.
        intake: what is done with files that are not as they should be.
        preprocess: the common grid and intensity range.
        again: to be read once more, before all others.
        under_way: read, not outlined yet.
        failed: could not be read or outlined.
    """

    source: Source
    intake: Intake
    preprocess: Preprocess
    again: deque[ScanFile] = field(default_factory=deque)
    under_way: deque[Taken] = field(default_factory=deque)
    failed: deque[Failed] = field(default_factory=deque)
    _next: _Reading | None = None
    _reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "reader"))

    def __enter__(self) -> Queue:
        self._next = self._begin(wait=False)
        return self

    def __exit__(self, *unused: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    @property
    def ended(self) -> bool:
        """Whether no scan is left to read."""
        return self._next is None and not self.again and self.source.ended

    def volumes(self) -> Iterator[Volume]:
        """The scans on the common grid, but for those that cannot be read.

        It ends where no scan is there at the moment and results are still to come: a plugin may
        hold them back until it has seen all volumes.
        """
        while reading := self._next or self._begin(wait=not (self.under_way or self.failed)):
            self._next = self._begin(wait=False)
            try:
                taken, volume = reading.future.result()
            except (CrossmodError, MemoryError, RuntimeError) as error:
                self.failed.append(Failed(reading.scan, explained(error, reading.scan)))
            else:
                self.under_way.append(taken)
                yield volume

    def done(self) -> Taken:
        """The scan whose prediction has come."""
        return self.under_way.popleft()

    def give_up(self, error: CrossmodError) -> None:
        """The first scan under way made the plugin fail; those read after it wait again."""
        if not self.under_way:
            raise error
        self.failed.append(Failed(self.under_way.popleft().scan, error))
        before = [taken.scan for taken in self.under_way]
        before += [self._next.scan] if self._next else []
        self.again.extendleft(reversed(before))
        self.under_way.clear()
        self._next = None

    def take_failed(self) -> Iterator[Failed]:
        """The scans that failed since the last call."""
        while self.failed:
            yield self.failed.popleft()

    def _begin(self, *, wait: bool) -> _Reading | None:
        """Begin to read the next scan."""
        scan = self.again.popleft() if self.again else self.source.next(wait=wait)
        return _Reading(scan, self._reader.submit(self._prepared, scan)) if scan else None

    def _prepared(self, scan: ScanFile) -> tuple[Taken, Volume]:
        image = load_scan(scan.path, self.intake, scan.series)
        return prepared(scan, image, self.preprocess, self.intake.limits.max_voxels)


def prepared(
    scan: ScanFile, image: Loaded, preprocess: Preprocess, most_voxels: int
) -> tuple[Taken, Volume]:
    """A scan that was read, and its volume on the common grid.

    Raises:
        NotAScan: it holds the values of a label map.
        DataError: its common grid would have too many voxels.
    """
    if few := few_values(image.data):
        text = ", ".join(map(str, few))
        raise NotAScan(f"holds only the values {text}: a label map", where=str(scan.path))
    data, _, affine = to_common(image.data, None, image.affine, preprocess, most_voxels)
    # A run keeps its prepared scans as NIfTI, where affines have single precision, and reads
    # them in C order; sums over voxels depend on the order.
    data = np.ascontiguousarray(data)
    kept = affine.astype(np.float32).astype(np.float64)
    grid = Grid(image.data.shape, image.affine)
    taken = Taken(scan, grid, image.form, image.remarks)
    return taken, Volume.of(data[np.newaxis], kept, case=scan.case)


def explained(error: Exception, scan: ScanFile) -> CrossmodError:
    """Why one scan is left out, if the others can still be outlined."""
    if isinstance(error, NotAScan):
        return error
    if isinstance(error, DataError):
        # A model has no recipe; what it said of reading scans is in the model.
        fix = error.fix.replace("in the recipe", f"in {MODEL_FILE}")
        return DataError(error.what, where=error.where, allowed=error.allowed, fix=fix)
    if isinstance(error, CrossmodError):
        return error
    if isinstance(error, MemoryError):
        return MachineError("not enough memory", where=str(scan.path))
    return DataError(f"cannot be resampled: {error}", where=str(scan.path))
