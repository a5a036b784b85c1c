"""Outline scans with a model, one after the other; a scan that fails does not stop the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from crossmod.data.form import Form
from crossmod.data.grids import Grid, Preprocess, to_common
from crossmod.data.volumes import LabelArray, Prediction, Volume
from crossmod.errors import CrossmodError, DataError, MachineError, PluginError
from crossmod.intake import Intake, NotAScan, ScanFile, few_values, load_scan
from crossmod.model.confidence import Confidence, confidence
from crossmod.model.facts import MODEL_FILE
from crossmod.model.load import Model
from crossmod.stages.base import Context
from crossmod.stages.guard import told


@dataclass(frozen=True)
class Outlined:
    """What was found in one scan.

    Attributes:
        scan: the scan.
        labels: ``(I, J, K)`` on the grid of the scan, with the values of label files.
        grid: the grid of the scan.
        form: how the header of the scan says where it lies; None of DICOM.
        confidence: one row for each class.
        remarks: what was odd about the file and could be mended.
    """

    scan: ScanFile
    labels: LabelArray
    grid: Grid
    form: Form | None
    confidence: Sequence[Confidence]
    remarks: tuple[str, ...]


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
    queue = Queue(deque(scans), model.facts.intake, model.facts.preprocess)
    while queue.waiting:
        # A plugin that raised yields nothing more; the scans behind get a new stream.
        stream = model.ensemble.members(queue.volumes(), model.states, ctx)
        while (result := _next(model, queue, stream)) is not None:
            yield from queue.take_failed()
            yield result
        yield from queue.take_failed()


def _next(
    model: Model, queue: Queue, stream: Iterator[tuple[Prediction, ...]]
) -> Outlined | Failed | None:
    """The next result of a stream, or None at its end."""
    members = None
    try:
        members = next(stream, None)
    except CrossmodError as error:
        queue.give_up(error)
    except Exception as error:
        use = model.ensemble.use
        queue.give_up(PluginError(told(error, use.package), where=use.who))
    return _outlined(model, members, queue.done()) if members else None


def _outlined(model: Model, members: Sequence[Prediction], taken: Taken) -> Outlined | Failed:
    try:
        joined = model.ensemble.joined(members)
        outline = model.ensemble.outline(joined, taken.grid)
        rows = confidence(model.ensemble, members, joined, outline, taken.grid)
    except (MemoryError, RuntimeError) as error:
        return Failed(taken.scan, _explained(error, taken.scan))
    return Outlined(taken.scan, outline.labels, taken.grid, taken.form, rows, taken.remarks)


def _explained(error: Exception, scan: ScanFile) -> CrossmodError:
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


@dataclass
class Queue:
    """Scans on their way through the folds, in order.

    Attributes:
        waiting: not read yet.
        intake: what is done with files that are not as they should be.
        preprocess: the common grid and intensity range.
        under_way: read, not outlined yet.
        failed: could not be read or outlined.
    """

    waiting: deque[ScanFile]
    intake: Intake
    preprocess: Preprocess
    under_way: deque[Taken] = field(default_factory=deque)
    failed: deque[Failed] = field(default_factory=deque)

    def volumes(self) -> Iterator[Volume]:
        """The waiting scans on the common grid, but for those that cannot be read."""
        while self.waiting:
            scan = self.waiting.popleft()
            try:
                taken, volume = self._prepared(scan)
            except (CrossmodError, MemoryError, RuntimeError) as error:
                self.failed.append(Failed(scan, _explained(error, scan)))
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
        self.waiting.extendleft(taken.scan for taken in reversed(self.under_way))
        self.under_way.clear()

    def take_failed(self) -> Iterator[Failed]:
        """The scans that failed since the last call."""
        while self.failed:
            yield self.failed.popleft()

    def _prepared(self, scan: ScanFile) -> tuple[Taken, Volume]:
        image = load_scan(scan.path, self.intake, scan.series)
        if few := few_values(image.data):
            text = ", ".join(map(str, few))
            raise NotAScan(f"holds only the values {text}: a label map", where=str(scan.path))
        most = self.intake.limits.max_voxels
        data, _, affine = to_common(image.data, None, image.affine, self.preprocess, most)
        # A run keeps its prepared scans as NIfTI, where affines have single precision, and reads
        # them in C order; sums over voxels depend on the order.
        data = np.ascontiguousarray(data)
        kept = affine.astype(np.float32).astype(np.float64)
        grid = Grid(image.data.shape, image.affine)
        taken = Taken(scan, grid, image.form, image.remarks)
        return taken, Volume.of(data[np.newaxis], kept, case=scan.case)
