"""Outline scans with a model, one after the other; a scan that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crossmod.data.form import Form
from crossmod.data.grids import Grid
from crossmod.data.volumes import LabelArray, Prediction
from crossmod.errors import CrossmodError, PluginError
from crossmod.intake import ScanFile
from crossmod.model.confidence import Confidence, confidence
from crossmod.model.load import Model
from crossmod.model.queue import Failed, Queue, Taken, explained
from crossmod.stages.context import Context
from crossmod.stages.guard import told


@dataclass(frozen=True)
class Found:
    """What the folds predict of one scan.

    Attributes:
        taken: the scan.
        members: the prediction of every fold, on the common grid.
    """

    taken: Taken
    members: Sequence[Prediction]


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


def predict(model: Model, queue: Queue, ctx: Context) -> Iterator[Found | Failed]:
    """Let every fold predict the scans of a queue, a few volumes in memory at a time.

    Each goes the way of a run: onto the common grid, through every fold, and by `outlined` back to
    its own grid.

    Args:
        model: the model.
        queue: the scans.
        ctx: seed, device and precision as the Predict step of a run has them.

    Yields:
        One result for each scan, failed ones as soon as they fail.
    """
    while not queue.ended:
        # A plugin that raised yields nothing more; the scans behind get a new stream.
        stream = model.ensemble.members(queue.volumes(), model.states, ctx)
        while (result := _next(model, queue, stream)) is not None:
            yield from queue.take_failed()
            yield result
        yield from queue.take_failed()


def _next(model: Model, queue: Queue, stream: Iterator[tuple[Prediction, ...]]) -> Found | None:
    """The next result of a stream, or None at its end."""
    members = None
    try:
        members = next(stream, None)
    except CrossmodError as error:
        queue.give_up(error)
    except Exception as error:
        use = model.ensemble.use
        queue.give_up(PluginError(told(error, use.package), where=use.who))
    return Found(queue.done(), members) if members else None


def outlined(model: Model, found: Found) -> Outlined | Failed:
    """The outlines of one scan on its own grid, and how sure the model is of them."""
    taken, members = found.taken, found.members
    try:
        joined = model.ensemble.joined(members)
        outline = model.ensemble.outline(joined, taken.grid)
        rows = confidence(model.ensemble, members, joined, outline, taken.grid, model.facts.curves)
    except (MemoryError, RuntimeError) as error:
        return Failed(taken.scan, explained(error, taken.scan))
    return Outlined(taken.scan, outline.labels, taken.grid, taken.form, rows, taken.remarks)
