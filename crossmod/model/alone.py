"""Outline one scan, an array in memory or a file, without writing anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossmod.data.volumes import Affine, Volume, spacing_of
from crossmod.errors import CrossmodError, DataError
from crossmod.intake import FileFault, Loaded, ScanFile, find_scan_files, finite, load_scan
from crossmod.intake.nifti.geometry import require_place, straightened
from crossmod.model.context import prediction_context
from crossmod.model.facts import SPACING_MM
from crossmod.model.load import Model
from crossmod.model.predict import Found, Outlined, outlined, segmenting
from crossmod.model.queue import Failed, Taken, explained, prepared
from crossmod.stages.guard import programs

IN_MEMORY = "array"
"""The case of a scan without a file."""

ZEROED = "replace them first, as with np.nan_to_num(scan, posinf=0, neginf=0)"
"""What mends an array; the model says whether voxels of files become 0."""


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
        file = _found(Path(scan), series)
        load = partial(load_scan, file.path, model.facts.intake, file.series)
    else:
        file = ScanFile(IN_MEMORY, Path(IN_MEMORY))
        load = partial(_wrapped, model, scan, spacing_mm, affine)
    taken, volume = _prepared(model, file, load)
    with (
        prediction_context(model.ensemble, device, precision) as ctx,
        programs.ended(model.ensemble.use.who, lambda text: None),
        segmenting(model),
    ):
        [members] = model.ensemble.members([volume], model.states, ctx)
    result = outlined(model, Found(taken, members))
    if isinstance(result, Failed):
        raise result.error
    return result


def _found(path: Path, series: str) -> ScanFile:
    found = find_scan_files([path], series=series)
    if len(found) != 1:
        raise DataError(
            f"holds {len(found)} scans", where=str(path), fix="outline folders by predict_files"
        )
    return found[0]


def _prepared(model: Model, file: ScanFile, load: Callable[[], Loaded]) -> tuple[Taken, Volume]:
    """A scan and its volume on the common grid."""
    facts = model.facts
    try:
        return prepared(file, load(), facts.preprocess, facts.intake.limits.max_voxels)
    except (CrossmodError, MemoryError, RuntimeError) as error:
        fault = explained(error, file)
    raise fault


def _wrapped(
    model: Model, scan: ArrayLike, spacing_mm: Sequence[float] | None, affine: ArrayLike | None
) -> Loaded:
    if hasattr(scan, "dataobj"):
        raise DataError(
            "is an image of nibabel",
            where=IN_MEMORY,
            allowed="real numbers (I, J, K)",
            fix="pass its voxels and affine: np.asarray(image.dataobj), affine=image.affine",
        )
    array = _array(scan)
    if array.ndim != 3 or array.dtype.kind not in "buif" or not array.size:
        raise DataError(
            f"has the shape {array.shape} and the type {array.dtype}",
            where=IN_MEMORY,
            allowed="real numbers (I, J, K)",
        )
    given = _geometry(spacing_mm, affine)
    try:
        data, remarks = finite(np.array(array), model.facts.intake)  # a copy, mended in place
        placed, straight = straightened(given, "affine")
        require_place(placed, array.shape)
    except FileFault as fault:
        told = fault.advising(ZEROED) if "intake.nonfinite" in fault.fix else fault
        raise told.of(Path(IN_MEMORY)) from fault
    return Loaded(data, placed, "", (*remarks, *straight))


def _geometry(spacing_mm: Sequence[float] | None, affine: ArrayLike | None) -> Affine:
    """The affine ``(4, 4)`` that was given, or that of axes which run right, front and up."""
    if spacing_mm is None and affine is None:
        raise DataError(
            "needs spacing_mm or affine, one of the two",
            where=IN_MEMORY,
            fix="pass the size of a voxel along I, J, K, as in spacing_mm=(0.6, 0.6, 1.5)",
        )
    if spacing_mm is not None and affine is not None:
        raise DataError(
            "has both spacing_mm and affine",
            where=IN_MEMORY,
            fix="leave out spacing_mm: the affine holds the sizes of voxels, too",
        )
    if affine is None:
        return np.diag([*_sizes(spacing_mm), 1.0])
    given = _array(affine, np.float64)
    if given.shape != (4, 4) or not np.isfinite(given).all() or not np.linalg.det(given[:3, :3]):
        raise DataError(
            "has no usable affine", where=IN_MEMORY, allowed="(4, 4), voxel -> RAS+ mm, invertible"
        )
    _require_size(spacing_of(given), "the affine says that voxels are")
    return given


def _sizes(spacing_mm: Sequence[float] | None) -> tuple[float, ...]:
    sizes = _array(spacing_mm, np.float64)
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or not (sizes > 0).all():
        raise DataError(
            f"spacing_mm is {spacing_mm!r:.80}",
            where=IN_MEMORY,
            allowed="three sizes above 0, as in (0.6, 0.6, 1.5)",
        )
    _require_size(tuple(sizes.tolist()), "spacing_mm is")
    return tuple(sizes.tolist())


def _require_size(sizes: tuple[float, ...], what: str) -> None:
    """Refuse voxels in which no head can be seen; their unit is wrong."""
    if max(sizes) > SPACING_MM[1]:
        told = ", ".join(f"{size:g}" for size in sizes)
        raise DataError(
            f"{what} ({told})", where=IN_MEMORY, allowed=f"sizes up to {SPACING_MM[1]:g} mm"
        )


def _array(given: Any, dtype: type | None = None) -> NDArray[Any]:
    """What was given as an array; an empty one if it cannot be one."""
    try:
        return np.asarray(given, dtype)
    except (TypeError, ValueError):
        return np.empty(0)


def _refuse_geometry(spacing_mm: Sequence[float] | None, affine: ArrayLike | None) -> None:
    if spacing_mm is not None or affine is not None:
        raise DataError(
            "a file says itself where its voxels lie", fix="leave out spacing_mm and affine"
        )
