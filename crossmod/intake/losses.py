"""What becomes of each class of a label map on its way from the file to the common grid.

A class may lie outside the scan that its label map is resampled to, outside the crop, or be too
small for the common grid. Label maps that may lose something are found by arithmetic on what is
known of the files; only those are followed voxel by voxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crossmod.data.classes import Classes
from crossmod.data.grids import (
    Grid,
    Preprocess,
    by,
    closest_canonical,
    common_grid,
    resample_labels,
)
from crossmod.data.volumes import FloatArray, LabelArray, spacing_of
from crossmod.intake.labels import load_labels, on_grid
from crossmod.intake.options import Intake
from crossmod.intake.payload import slabs
from crossmod.intake.results import FileFault
from crossmod.intake.scans import load_scan

if TYPE_CHECKING:
    from crossmod.intake.facts import Facts

COARSE = 64
"""Voxels along an axis of the thinned scan that tells about where the crop will lie."""

SMALL = 8
"""Voxels of the common grid; a structure of less volume may vanish there."""

THIN = 2
"""The same for the voxels along an axis."""

ON_SCAN, ON_GRID = 0.9, 0.75
"""Share of a class on the grid of its scan, and of that on the common grid, below which resampling
did more than round its border."""


def counts_of(labels: NDArray[np.uint8 | np.float32]) -> NDArray[np.int64]:
    """How many voxels have each of the values from 0 to 255, ``(256,)``."""
    counts = np.zeros(256, np.int64)
    for part in slabs(labels):
        counts += np.bincount(part.astype(np.uint8, copy=False), minlength=256)
    return counts


def safe_part(data: FloatArray, affine: NDArray[np.float64], options: Preprocess) -> Grid | None:
    """The part of a scan that the crop keeps for certain; None where nothing is cropped.

    The middle of the crop is found in a thinned scan, and the part is smaller by what that may be
    wrong.

    Args:
        data: ``(I, J, K)``.
        affine: voxel -> RAS+ mm.
        options: the common grid.
    """
    if options.crop is None:
        return None
    image, canonical = closest_canonical(data, affine)
    steps = np.array([max(n // COARSE, 1) for n in image.shape])
    thin = image[tuple(slice(None, None, step) for step in steps)]
    crop = common_grid(thin, canonical @ np.diag([*steps, 1]), options)
    off_mm = 2 * (steps - 1) * np.linalg.norm(canonical[:3, :3], axis=0)
    margins = np.ceil(off_mm / crop.spacing_mm).astype(int) + 1
    margins[2] = 0  # the crop is in plane
    spans = zip(margins.tolist(), crop.shape, strict=True)
    return crop.part(tuple(slice(m, max(n - m, m)) for m, n in spans))


def may_lose(labels: Facts, scan: Facts, classes: Classes, options: Preprocess) -> bool:
    """Whether any class of a label map may shrink on its way to the common grid.

    Args:
        labels: what is known of the label map.
        scan: the same of its scan.
        classes: the classes that count.
        options: the common grid.
    """
    axes = np.abs(labels.grid.affine[:3, :3]).argmax(axis=0)
    spacing_mm = np.array(options.spacing_mm)[axes]
    for values in classes.values.values():
        box = labels.box_of(values)
        if box is None:
            continue
        sides_mm = (box[:, 1] - box[:, 0]) * labels.grid.spacing_mm
        volume_mm3 = labels.voxels_of(values) * math.prod(labels.grid.spacing_mm)
        if (sides_mm < THIN * spacing_mm).any() or volume_mm3 < SMALL * np.prod(spacing_mm):
            return True
        if scan.safe is not None and not _lies_in(box, labels.grid, scan.safe):
            return True
    return False


def _lies_in(box: NDArray[np.int64], grid: Grid, part: Grid) -> bool:
    """Whether a box of voxels ``(3, 2)``, from start to stop, lies in the plane of a part."""
    corners = np.array([(*corner, 1.0) for corner in product(*(box - 0.5))])
    inside = (corners @ (np.linalg.inv(part.affine) @ grid.affine)[:3].T)[:, :2]
    return bool((inside >= -0.5).all() and (inside <= np.array(part.shape[:2]) - 0.5).all())


@dataclass(frozen=True)
class Way:
    """The volume of one class, mm3, from its file to training.

    Attributes:
        name: the class.
        given: in the file.
        scan: on the grid of the scan.
        grid: on the common grid, before it is cropped.
        crop: in the crop.
    """

    name: str
    given: float
    scan: float
    grid: float
    crop: float

    def loss(self, case: str, options: Preprocess) -> FileFault | None:
        """Why nothing of it is left; None if something is, or if nothing was there."""
        if not self.given or self.crop:
            return None
        whom = f"case {case}: all of '{self.name}' ({self.given:.7g} mm3)"
        if not self.scan:
            fix = "correct the label map, or label the scan itself"
            return FileFault("labels", f"{whom} is lost on the grid of the scan", fix=fix)
        if not self.grid:
            grid = by(options.spacing_mm)
            what = f"{whom} is too small for the common grid of {grid} mm and vanishes there"
            fix = "choose a smaller preprocess.spacing_mm"
            fix += ", and a larger preprocess.crop for the same extent" * bool(options.crop)
            return FileFault("labels", what, fix=fix)
        what = f"{whom} lies outside the crop of {by(options.crop or ())} voxels"
        fix = "choose a larger preprocess.crop or another preprocess.center"
        return FileFault("labels", what, fix=f"{fix}, or correct the label map")

    def remarks(self, case: str) -> list[str]:
        """What it loses on the way, where something is left."""
        steps = (
            ("the grid of the scan", self.scan, self.given, ON_SCAN),
            ("the common grid", self.grid, self.scan, ON_GRID),
            ("the crop", self.crop, self.grid, 1),
        )
        return [
            f"labels: case {case}: {where} keeps {_percent(left / before)} of '{self.name}'"
            for where, left, before, least in steps
            if self.crop and left < least * before
        ]


def follow(
    pair: tuple[Path, Path], series: str, intake: Intake, options: Preprocess, classes: Classes
) -> list[Way]:
    """Follow the classes of the label map of a scan, from the files.

    Args:
        pair: the scan and its label map.
        series: of the scan, if it is a folder of DICOM files.
        intake: how files are read.
        options: the common grid.
        classes: names and values.

    Raises:
        DataError: one of them cannot be trusted, or they do not belong together.
    """
    image, labels = pair
    scan, found = load_scan(image, intake, series), load_labels(labels, intake)
    native = Grid(scan.data.shape, scan.affine)
    try:
        on_scan, _ = on_grid(found, native, intake.resample_labels)
    except FileFault as fault:
        raise fault.of(labels) from fault
    crop = common_grid(*closest_canonical(scan.data, scan.affine), options)
    voxel_mm3 = math.prod(spacing_of(found.affine))
    here = (classes.to_labels(on_scan), native)
    return ways(classes.to_labels(found.labels), voxel_mm3, here, crop, classes, options)


def ways(
    given: LabelArray,
    voxel_mm3: float,
    scan: tuple[LabelArray, Grid],
    crop: Grid,
    classes: Classes,
    options: Preprocess,
) -> list[Way]:
    """Follow the classes of one label map.

    Args:
        given: the labels of classes as in the file ``(I, J, K)``.
        voxel_mm3: the volume of one of its voxels.
        scan: the same on the grid of the scan, and that grid.
        crop: the common grid that the scan is brought onto.
        classes: names and labels.
        options: the common grid.
    """
    labels, native = scan
    turned, canonical = closest_canonical(labels, native.affine)
    nothing = np.broadcast_to(np.float32(0), turned.shape)
    uncropped = options.model_copy(update={"crop": None})
    whole = common_grid(nothing, canonical, uncropped)  # its voxels are those of the crop
    on_grid = resample_labels(turned, canonical, whole)
    start = np.rint((np.linalg.inv(whole.affine) @ crop.affine)[:3, 3]).astype(int)
    box = [slice(max(a, 0), max(a + n, 0)) for a, n in zip(start, crop.shape, strict=True)]
    found = (given, labels, on_grid, on_grid[tuple(box)])
    sizes = (voxel_mm3, *(math.prod(grid.spacing_mm) for grid in (native, whole, whole)))
    volumes = [counts_of(one) * size for one, size in zip(found, sizes, strict=True)]
    return [
        Way(name, *(float(one[label]) for one in volumes)) for name, label in classes.labels.items()
    ]


def _percent(share: float) -> str:
    """A share below 1, rounded down so that what is lost never reads as 100 %."""
    return f"{math.floor(1000 * share) / 10:g} %" if share >= 1e-3 else "less than 0.1 %"
