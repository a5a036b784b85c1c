"""What a segmenter may know where its predictions are not a step of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from crossmod.errors import MachineError
from crossmod.model.ensemble import Ensemble
from crossmod.options import Precision
from crossmod.stages.context import Context

PRECISIONS = get_args(Precision)


@contextmanager
def prediction_context(ensemble: Ensemble, device: str, precision: str) -> Iterator[Context]:
    """What the segmenter may know; files of its own go to a folder that is not kept.

    Args:
        ensemble: the segmenter.
        device: "auto", "cpu", "cuda" or "cuda:n".
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        MachineError: the device or the precision does not exist.
    """
    import torch

    from crossmod.torch import resolve_device, resolve_precision

    if precision not in PRECISIONS:
        what = f'"{precision}" is not a precision'
        raise MachineError(what, where="precision", allowed=", ".join(PRECISIONS))
    try:
        found = resolve_device(device)
    except MachineError as error:
        where = f"--device {device}"
        raise MachineError(error.what, where=where, allowed=error.allowed, fix=error.fix) from error
    with TemporaryDirectory() as folder:
        yield Context(
            folder=Path(folder),
            classes=ensemble.classes.labels,
            device=found,
            precision=resolve_precision(precision, found),
            cores=torch.get_num_threads,
        )
