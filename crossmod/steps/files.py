"""How steps keep cohorts, learned states and predictions in their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossmod.data import Cohort, FloatArray, Prediction, State, Volume
from crossmod.errors import CrossmodError, DataError
from crossmod.steps.base import Step, Where

STATE = "state.safetensors"


def load_cohorts(steps: tuple[Step, ...], folder_of: Where) -> Cohort:
    """The cohorts of several steps as one."""
    first, *others = (Cohort.load(folder_of(step)) for step in steps)
    for other in others:
        first = first + other
    return first


def save_state(folder: Path, state: State) -> None:
    """Store what a stage has learned; no pickle.

    Raises:
        CrossmodError: it holds values that are NaN or infinite.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    broken = [name for name, array in arrays.items() if not _finite(array)]
    if broken:
        raise CrossmodError(
            f"{len(broken)} of {len(arrays)} learned arrays hold NaN or infinite values",
            where=broken[0],
            fix="nothing was stored; lower the learning rate, or look at the images",
        )
    (folder / STATE).write_bytes(save(arrays))  # as bytes: a full disk is an OSError then


def load_state(folder: Path) -> State:
    """What a stage has learned.

    Raises:
        DataError: the file is not one that `save_state` wrote.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state: State = load_file(folder / STATE)
    except (SafetensorError, TypeError) as error:  # TypeError: a type that numpy does not have
        raise DataError(
            f"not a file of learned arrays: {error}",
            where=str(folder / STATE),
            fix="remove this folder and run again to make it anew",
        ) from error
    return state


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def label_map(folder: Path, case: str) -> Path:
    """Where a Predict step keeps the label map of a case, on the grid of the scan."""
    return folder / "labels" / f"{case}.nii.gz"


def save_probabilities(folder: Path, prediction: Prediction) -> None:
    """Keep class probabilities ``(1 + classes, I, J, K)`` in half precision."""
    path = folder / "probabilities" / f"{prediction.case}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, prediction.probabilities.astype(np.float16), allow_pickle=False)


def load_prediction(folder: Path, image: Volume) -> Prediction:
    """The prediction a Predict step kept for an image."""
    path = folder / "probabilities" / f"{image.case}.npy"
    probabilities: FloatArray = np.load(path, allow_pickle=False).astype(np.float32)
    return Prediction(image, probabilities)
