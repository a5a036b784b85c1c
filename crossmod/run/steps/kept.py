"""What a Predict step keeps for a pseudo-labeler: probabilities, and what each fold outlined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crossmod.data.volumes import FloatArray, LabelArray, Prediction, Volume


def save_probabilities(folder: Path, prediction: Prediction) -> None:
    """Keep class probabilities ``(1 + classes, I, J, K)`` in half precision."""
    path = folder / "probabilities" / f"{prediction.case}.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, prediction.probabilities.astype(np.float16), allow_pickle=False)


def save_folds(folder: Path, members: Sequence[Prediction]) -> None:
    """Keep the label maps of all folds of a case, uint8 ``(F, I, J, K)``."""
    path = folder / "folds" / f"{members[0].case}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, folds=np.stack([member.labels for member in members]))


def load_prediction(folder: Path, image: Volume) -> Prediction:
    """The prediction a Predict step kept for an image."""
    path = folder / "probabilities" / f"{image.case}.npy"
    probabilities: FloatArray = np.load(path, allow_pickle=False).astype(np.float32)
    kept = folder / "folds" / f"{image.case}.npz"
    return Prediction(image, probabilities, partial(_folds, kept) if kept.is_file() else None)


def _folds(path: Path) -> LabelArray:
    with np.load(path, allow_pickle=False) as file:
        folds: LabelArray = file["folds"]
    return folds
