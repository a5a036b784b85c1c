"""Outline scans with a model, one after the other; a scan that fails does not stop the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from crossmod.data import LabelArray, Prediction, Volume
from crossmod.errors import CrossmodError, PluginError
from crossmod.intake import ScanFile, load_scan
from crossmod.model.confidence import Confidence, confidence
from crossmod.model.load import Model
from crossmod.preprocess import Grid, Preprocess, to_common
from crossmod.stages import Context


@dataclass(frozen=True)
class Outlined:
    """What was found in one scan.

    Attributes:
        scan: the scan.
        labels: ``(I, J, K)`` on the grid of the scan, with the values of label files.
        grid: the grid of the scan.
        confidence: one row for each class.
    """

    scan: ScanFile
    labels: LabelArray
    grid: Grid
    confidence: Sequence[Confidence]


@dataclass(frozen=True)
class Failed:
    """A scan without outlines, and why."""

    scan: ScanFile
    error: CrossmodError


def predict(model: Model, scans: Sequence[ScanFile], ctx: Context) -> Iterator[Outlined | Failed]:
    """Outline scans, a few volumes in memory at a time.

    Each goes the way of a run: onto the common grid, through every fold, back to its own grid.

    Args:
        model: the model.
        scans: the scans.
        ctx: seed, device and precision as the Predict step of a run has them.

    Yields:
        One result for each scan, failed ones as soon as they fail.
    """
    queue = Queue(deque(scans), model.facts.preprocess)
    while queue.waiting:
        # A plugin that raised yields nothing more; the scans behind get a new stream.
        stream = model.ensemble.members(queue.volumes(), model.states, ctx)
        while (result := _next(model, queue, stream)) is not None:
            yield from queue.take_failed()
            yield result
        yield from queue.take_failed()


def _next(model: Model, queue: Queue, stream: Iterator[tuple[Prediction, ...]]) -> Outlined | None:
    """The next result of a stream, or None at its end."""
    members = None
    try:
        members = next(stream, None)
    except CrossmodError as error:
        queue.give_up(error)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        queue.give_up(PluginError(what, where=model.ensemble.use.who))
    return _outlined(model, members, *queue.done()) if members else None


def _outlined(
    model: Model, members: Sequence[Prediction], scan: ScanFile, native: Grid
) -> Outlined:
    joined = model.ensemble.joined(members)
    labels = model.ensemble.outline(joined, native)
    rows = confidence(model.ensemble, members, joined, labels, native)
    return Outlined(scan, labels, native, rows)


@dataclass
class Queue:
    """Scans on their way through the folds, in order.

    Attributes:
        waiting: not read yet.
        preprocess: the common grid and intensity range.
        under_way: read, not outlined yet.
        grids: case -> the grid of a scan under way.
        failed: could not be read or outlined.
    """

    waiting: deque[ScanFile]
    preprocess: Preprocess
    under_way: deque[ScanFile] = field(default_factory=deque)
    grids: dict[str, Grid] = field(default_factory=dict)
    failed: deque[Failed] = field(default_factory=deque)

    def volumes(self) -> Iterator[Volume]:
        """The waiting scans on the common grid, but for those that cannot be read."""
        while self.waiting:
            scan = self.waiting.popleft()
            self.under_way.append(scan)
            try:
                volume = self._prepared(scan)
            except CrossmodError as error:
                self.under_way.pop()
                self.failed.append(Failed(scan, error))
            else:
                yield volume

    def done(self) -> tuple[ScanFile, Grid]:
        """The scan whose prediction has come, and its own grid."""
        scan = self.under_way.popleft()
        return scan, self.grids.pop(scan.case)

    def give_up(self, error: CrossmodError) -> None:
        """The first scan under way made the plugin fail; those read after it wait again."""
        if not self.under_way:
            raise error
        self.failed.append(Failed(self.under_way.popleft(), error))
        self.waiting.extendleft(reversed(self.under_way))
        self.under_way.clear()

    def take_failed(self) -> Iterator[Failed]:
        """The scans that failed since the last call."""
        while self.failed:
            yield self.failed.popleft()

    def _prepared(self, scan: ScanFile) -> Volume:
        image = load_scan(scan.path, series=scan.series)
        self.grids[scan.case] = Grid(image.data.shape, image.affine)
        data, _, affine = to_common(image.data, None, image.affine, self.preprocess)
        # A run keeps its prepared scans as NIfTI, where affines have single precision.
        kept = affine.astype(np.float32).astype(np.float64)
        return Volume.of(data[np.newaxis], kept, case=scan.case)
