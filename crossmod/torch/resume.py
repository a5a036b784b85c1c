"""The loop of a training that goes on where it was killed, to the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crossmod.errors import Interrupted
from crossmod.faults import point
from crossmod.store.checkpoints import Checkpoints
from crossmod.torch.snapshot import Part, read, require_parts, write

if TYPE_CHECKING:
    from crossmod.stages import Context


def resumable(
    ctx: Context,
    total: int,
    parts: Mapping[str, Part],
    *,
    label: str = "",
    phase: int | None = None,
) -> Iterator[int]:
    """Yield the numbers of the steps that are still to do, from 0; one such loop in a `fit`.

    The first step is yielded after the newest checkpoint was put into the parts, and into the
    global random numbers of Python, numpy and torch. After the body of a step, a checkpoint is
    kept if one is due, with all that was written into ``ctx.folder`` by then.

    Args:
        ctx: the run; without checkpoints this is a loop over all steps.
        total: steps of the whole training.
        parts: what steps change, by name: networks, generators of random numbers, and objects with
            ``state_dict()`` and ``load_state_dict()`` of plain data and tensors. Such an object
            gets its tensors on the CPU.
        label: what the progress bar says.
        phase: steps after which the cost of a step changes. When the cost is estimated, only the
            first two steps of each phase are done: numbers may jump to the next multiple of it.

    Raises:
        Interrupted: the program was asked to stop; the checkpoint is kept.
        DataError: the checkpoint is of another training, damaged or hostile.
        PluginError: a part has no state that can be kept.
        CrossmodError: a weight is no number; no checkpoint is made of it.
    """
    require_parts(parts)
    facts = {
        "total": total,
        "device": torch.device(ctx.device).type,
        "torch": torch.__version__,
    }
    done, checkpoints = 0, ctx.checkpoints
    steps: Iterable[int] = range(total)
    if checkpoints is not None:
        done = _restore(checkpoints, parts, facts, ctx)
        steps = checkpoints.steps(done, total, phase)
    for step in ctx.progress(steps, total=total, label=label):
        yield step
        point(f"step-{step + 1}")
        if checkpoints is not None:
            _keep(checkpoints, step + 1, parts, facts)


def _restore(
    checkpoints: Checkpoints, parts: Mapping[str, Part], facts: Mapping[str, Any], ctx: Context
) -> int:
    """Go on from the newest checkpoint; returns the steps done."""
    saved = checkpoints.newest()
    if saved is None:
        return 0
    before = read(saved.folder, parts, facts, required="total")
    if before != facts:
        there, here = (f"{one['device']} with torch {one['torch']}" for one in (before, facts))
        ctx.log(f"warning: this training began on {there} and goes on on {here};"
                " its numbers will differ in their last digits")  # fmt: skip
    return saved.step


def _keep(
    checkpoints: Checkpoints, done: int, parts: Mapping[str, Part], facts: Mapping[str, Any]
) -> None:
    """Keep a state if it is time, and stop if that was asked for."""

    def fill(folder: Path) -> None:
        write(folder, parts, facts)

    total, stopping = facts["total"], checkpoints.stopping()
    if stopping or (done < total and checkpoints.due()):
        point("saving")
        checkpoints.save(done, fill)
        point("saved")
    if stopping:
        raise Interrupted(
            f"stopped after step {done} of {total}", fix="run the same command again to go on"
        )
