"""Small stand-ins for cohorts and predictions, on the grids of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.grids import Grid
from crossmod.data.nifti import write_nifti
from crossmod.data.volumes import FloatArray, LabelArray, Prediction
from crossmod.run.steps.extents import Extent, Lattice
from crossmod.run.steps.kept import save_probabilities
from crossmod.run.steps.scans import Native, save_grids

FILES = 2
"""Number of different images; the cases of a cohort share them."""

RADII_MM = (4.0, 9.0)
"""Of the structure with label 1 in these images: options may treat small and large ones apart."""

OTHERS_MM = 2.5
"""Radius of the other structures."""


def write_cohort(folder: Path, extent: Extent, classes: Mapping[str, int]) -> None:
    """A cohort with the names, the number of cases and the native grid of another; few files."""
    affine = np.diag([*extent.lattice.spacing_mm, 1.0])
    files = []
    for number in range(FILES):
        labels = outlines(extent.lattice, classes, number)
        image = folder / "images" / f"{number}.nii"
        write_nifti(image, head(extent.lattice, labels, number), affine)
        if extent.labeled:
            write_nifti(folder / "labels" / image.name, labels, affine)
        files.append((image, folder / "labels" / image.name if extent.labeled else None))
    cases = tuple(
        Case(name, name.partition("+")[0], center, *paths)
        for (name, center), paths in zip(extent.cases, cycle(files), strict=False)
    )
    Cohort(cases, classes).save(folder)
    scanned = Grid(extent.native.shape, np.diag([*extent.native.spacing_mm, 1.0]))
    save_grids(folder, {case.case: Native(scanned) for case in cases})


def write_predictions(folder: Path, cohort: Cohort, lattice: Lattice) -> None:
    """Confident predictions of the cases of a cohort."""
    folder.mkdir(parents=True)
    for number, volume in enumerate(cohort.volumes()):
        labels = outlines(lattice, cohort.classes, number)
        sure = [labels == label for label in range(1 + max(cohort.classes.values()))]
        shares = 0.9 * np.stack(sure).astype(np.float32) + 0.1 / len(sure)
        save_probabilities(folder, Prediction(volume, shares))


def head(lattice: Lattice, labels: LabelArray, seed: int) -> FloatArray:
    """An ellipsoid of smooth noise in [0, 1]; outlined structures are brighter."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).random(lattice.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, 1.0)
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, n)) for n in lattice.shape)]
    inside = sum(axis**2 for axis in axes[:2]) < 0.8  # every slice along K shows some
    image: FloatArray = np.where(inside, smooth, 0) + 0.2 * (labels > 0)
    return np.clip(image, 0, 1).astype(np.float32)


def outlines(lattice: Lattice, classes: Mapping[str, int], number: int) -> LabelArray:
    """A ball for each class, side by side in the middle of the grid."""
    size = np.array(lattice.shape) * lattice.spacing_mm
    labels: LabelArray = np.zeros(lattice.shape, np.uint8)
    for place, label in enumerate(classes.values(), start=1):
        radius = OTHERS_MM if place > 1 else RADII_MM[number % len(RADII_MM)]
        middle = size * [place / (1 + len(classes)), 0.5, 0.5]
        at = np.ogrid[tuple(slice(0, n) for n in lattice.shape)]
        away = sum(
            (axis * step - m) ** 2
            for axis, step, m in zip(at, lattice.spacing_mm, middle, strict=True)
        )
        labels[away < radius**2] = label
    return labels
