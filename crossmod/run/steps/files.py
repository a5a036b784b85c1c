"""How steps keep cohorts, grids and predictions in their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossmod.data.grids import Grid
from crossmod.data.volumes import Cohort, FloatArray, Prediction, Volume
from crossmod.run.steps.base import Step, Where

GRIDS = "grids.json"


def load_cohorts(steps: tuple[Step, ...], folder_of: Where) -> Cohort:
    """The cohorts of several steps as one."""
    first, *others = (Cohort.load(folder_of(step)) for step in steps)
    for other in others:
        first = first + other
    return first


def label_map(folder: Path, case: str) -> Path:
    """Where a Predict step keeps the label map of a case, on the grid of the scan."""
    return folder / "labels" / f"{case}.nii.gz"


def save_grids(folder: Path, grids: Mapping[str, Grid]) -> None:
    """Note the grid of each scan, so that nothing has to read the scans for it again."""
    rows = {c: {"shape": g.shape, "affine": g.affine.tolist()} for c, g in grids.items()}
    (folder / GRIDS).write_text(json.dumps(rows), encoding="utf-8")


def load_grids(folder: Path) -> dict[str, Grid]:
    """Case -> grid of the scan."""
    rows = json.loads((folder / GRIDS).read_text(encoding="utf-8"))
    return {c: Grid(tuple(row["shape"]), np.array(row["affine"])) for c, row in rows.items()}


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
