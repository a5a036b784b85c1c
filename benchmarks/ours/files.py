"""NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossmod.data.nifti import write_nifti
from crossmod.intake import load_scan
from racing.masks import SPACING_MM, volume
from racing.turns import Turns

AFFINE = np.diag([*SPACING_MM, 1.0])


def write(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Write a volume."""
    data, path = volume(shape), Path.cwd() / f"scan{ending}"
    for _ in turns:
        write_nifti(path, data, AFFINE)


def read(turns: Turns, shape: tuple[int, ...], ending: str) -> None:
    """Read a volume as a scan from outside, which is checked and digested."""
    path = Path.cwd() / f"scan{ending}"
    write_nifti(path, volume(shape), AFFINE)
    for _ in turns:
        np.asarray(load_scan(path).data)
