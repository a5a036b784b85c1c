"""Whole processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

from racing.masks import SPACING_MM, volume
from racing.turns import Turns

CROSSMOD = [sys.executable, "-c", "from crossmod.cli import main; main()"]

RECIPE = """\
extends = "smoke"
title = "Race"
translate = false
augment = false
pseudo_label = false

[data]
phantom = {{ source = 2, target = 2, validation = 1 }}

[preprocess]
spacing_mm = [0.6, 0.6, 1.0]
crop = [{shape[0]}, {shape[1]}]

[segment]
base_channels = 32
max_channels = 320
patch = {shape}
iterations = 1
overlap = 0.5

[evaluate]
compare = ["no-adaptation"]
"""
"""Trains a network of nnU-Net's size for one step: how long it predicts is the same."""


def command(turns: Turns, arguments: list[str]) -> None:
    """Start crossmod and wait for its end."""
    for _ in turns:
        call(*arguments)


def predict(turns: Turns, shape: list[int]) -> None:
    """Outline one scan, which is as large as a window, without mirroring."""
    Path("race.toml").write_text(RECIPE.format(shape=list(shape)), encoding="utf-8")
    call("run", "race.toml", "--out", "run")
    call("package", "run", "model")
    scan = Path("scans") / "scan.nii.gz"
    write_scan(scan, shape)
    for _ in turns:
        call("predict", "model", scan, "out", "--overwrite")


def write_scan(path: Path, shape: list[int]) -> None:
    """Write a synthetic scan into a new folder."""
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(volume(tuple(shape)), np.diag([*SPACING_MM, 1.0])), path)


def call(*arguments: str | Path) -> None:
    """Run a command of crossmod.

    Raises:
        CalledProcessError: it fails.
    """
    subprocess.run([*CROSSMOD, *map(str, arguments)], check=True, stdout=sys.stderr)
