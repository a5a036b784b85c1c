"""NiBabel: files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from racing.masks import SPACING_MM, volume
from racing.turns import Turns

AFFINE = np.diag([*SPACING_MM, 1.0])


def write(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Write an array."""
    image, path = nibabel.Nifti1Image(volume(shape), AFFINE), Path.cwd() / f"scan{ending}"
    for _ in turns:
        nibabel.save(image, path)


def read(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Read a file into an array."""
    path = Path.cwd() / f"scan{ending}"
    nibabel.save(nibabel.Nifti1Image(volume(shape), AFFINE), path)
    for _ in turns:
        np.array(nibabel.load(path).dataobj)
