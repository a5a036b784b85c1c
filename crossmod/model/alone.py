"""Outline one scan, an array in memory or a file, without writing anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from crossmod.data.volumes import Affine
from crossmod.errors import DataError
from crossmod.intake import FileFault, Loaded, ScanFile, find_scan_files, finite, load_scan
from crossmod.model.context import prediction_context
from crossmod.model.load import Model
from crossmod.model.predict import Found, Outlined, outlined
from crossmod.model.queue import Failed, prepared
from crossmod.stages.guard import programs

IN_MEMORY = "array"
"""The case of a scan without a file."""


def outline_alone(
    model: Model,
    scan: ArrayLike | str | Path,
    spacing_mm: Sequence[float] | None,
    affine: ArrayLike | None,
    series: str,
    device: str,
    precision: str,
) -> Outlined:
    """The outlines of one scan; see `Model.predict`."""
    if isinstance(scan, str | Path):
        _refuse_geometry(spacing_mm, affine)
        file, image = _read(model, Path(scan), series)
    else:
        file, image = (
            ScanFile(IN_MEMORY, Path(IN_MEMORY)),
            _wrapped(model, scan, spacing_mm, affine),
        )
    most = model.facts.intake.limits.max_voxels
    taken, volume = prepared(file, image, model.facts.preprocess, most)
    with (
        prediction_context(model.ensemble, device, precision) as ctx,
        programs.ended(model.ensemble.use.who, lambda text: None),
    ):
        [members] = model.ensemble.members([volume], model.states, ctx)
    result = outlined(model, Found(taken, members))
    if isinstance(result, Failed):
        raise result.error
    return result


def _read(model: Model, path: Path, series: str) -> tuple[ScanFile, Loaded]:
    found = find_scan_files([path], series=series)
    if len(found) != 1:
        raise DataError(
            f"holds {len(found)} scans", where=str(path), fix="outline folders by predict_files"
        )
    return found[0], load_scan(found[0].path, model.facts.intake, found[0].series)


def _wrapped(
    model: Model, scan: ArrayLike, spacing_mm: Sequence[float] | None, affine: ArrayLike | None
) -> Loaded:
    array = np.asarray(scan)
    if array.ndim != 3 or array.dtype.kind not in "buif" or not array.size:
        raise DataError(
            f"has the shape {array.shape} and the type {array.dtype}",
            where=IN_MEMORY,
            allowed="real numbers (I, J, K)",
        )
    try:
        data, remarks = finite(np.array(array), model.facts.intake)  # a copy, mended in place
    except FileFault as fault:
        raise fault.of(Path(IN_MEMORY)) from fault
    return Loaded(data, _geometry(spacing_mm, affine), "", tuple(remarks))


def _geometry(spacing_mm: Sequence[float] | None, affine: ArrayLike | None) -> Affine:
    """The affine ``(4, 4)`` that was given, or that of axes which run right, front and up."""
    if (spacing_mm is None) == (affine is None):
        raise DataError(
            "needs spacing_mm or affine, one of the two",
            where=IN_MEMORY,
            fix="pass the size of a voxel along I, J, K, as in spacing_mm=(0.6, 0.6, 1.5)",
        )
    if spacing_mm is not None:
        sizes = [float(size) for size in spacing_mm]
        if len(sizes) != 3 or not all(0 < size < math.inf for size in sizes):
            raise DataError(
                f"spacing_mm is {sizes}", where=IN_MEMORY, allowed="three sizes above 0"
            )
        return np.diag([*sizes, 1.0])
    given = np.asarray(affine, dtype=np.float64)
    if given.shape != (4, 4) or not np.isfinite(given).all() or not np.linalg.det(given[:3, :3]):
        raise DataError(
            "has no usable affine", where=IN_MEMORY, allowed="(4, 4), voxel -> RAS+ mm, invertible"
        )
    return given


def _refuse_geometry(spacing_mm: Sequence[float] | None, affine: ArrayLike | None) -> None:
    if spacing_mm is not None or affine is not None:
        raise DataError(
            "a file says itself where its voxels lie", fix="leave out spacing_mm and affine"
        )
