"""How steps keep cohorts, learned states and predictions in their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossmod.data import Cohort, FloatArray, Prediction, State, Volume
from crossmod.steps.base import Step, Where


def load_cohorts(steps: tuple[Step, ...], folder_of: Where) -> Cohort:
    """The cohorts of several steps as one."""
    first, *others = (Cohort.load(folder_of(step)) for step in steps)
    for other in others:
        first = first + other
    return first


def save_state(folder: Path, state: State) -> None:
    """Store what a stage has learned; no pickle."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    save_file(arrays, folder / "state.safetensors")


def load_state(folder: Path) -> State:
    """What a stage has learned."""
    from safetensors.numpy import load_file

    state: State = load_file(folder / "state.safetensors")
    return state


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
