"""Outline scans with a model, one after the other; a scan that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crossmod.data.form import Form
from crossmod.data.grids import Grid
from crossmod.data.volumes import LabelArray, Prediction
from crossmod.errors import CrossmodError, MachineError, PluginError
from crossmod.intake import ScanFile
from crossmod.model.confidence import Confidence, confidence
from crossmod.model.load import Model
from crossmod.model.queue import Failed, Queue, Taken, explained
from crossmod.stages.context import Context
from crossmod.stages.guard import is_out_of_memory, text_of, told


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
        with segmenting(model):
            members = next(stream, None)
    except CrossmodError as error:
        queue.give_up(error)
    return Found(queue.done(), members) if members else None


@contextmanager
def segmenting(model: Model) -> Iterator[None]:
    """Turn whatever the segmenter raises in this block into an error for users.

    Raises:
        PluginError: the segmenter failed.
        MachineError: memory ran out.
        CrossmodError: as the segmenter raised it.
    """
    who, package = model.ensemble.use.who, model.ensemble.use.package
    try:
        yield
    except CrossmodError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise PluginError(told(error, package), where=who) from error
        said = text_of(error).partition("\n")[0]
        raise MachineError(
            ": ".join(filter(None, ["not enough memory", said])),
            where=who,
            fix="end other programs, or use another device or machine",
        ) from error


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
