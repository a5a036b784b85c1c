"""The choice of the one slice that SinGAN learns."""

from __future__ import annotations

import numpy as np

from crossmod import Case, Cohort, DataError, RecipeError, Volume
from crossmod_singan_gba.blend import FloatArray


def choose_slice(
    labeled: Cohort, target: Cohort, label: int, case: str | None, index: int | None
) -> tuple[str, int, FloatArray]:
    """Pick an axial slice of a target image.

    A given case and index are obeyed. Otherwise the slice lies at the level of the lesions, and
    the case is the one whose head has there the area closest to the median over all cases.

    Returns:
        Case, slice index, and the slice ``(I, J)``.

    Raises:
        DataError: no target image, or no labeled lesion to know the level from.
        RecipeError: the case or the index does not exist.
    """
    if not target.cases:
        raise DataError("there is no target image to learn from", where="fit_on")
    if case is not None:
        volume = named(target, case).volume()
        if index is None:
            index = index_at(volume, lesion_level(labeled, label))
    else:
        level = lesion_level(labeled, label)
        areas = [head_area(volume, level) for volume in target.volumes()]
        chosen = int(np.argmin(np.abs(np.array(areas) - np.median(areas))))
        volume = target.cases[chosen].volume()
        index = index_at(volume, level)
    count = volume.grid[2]
    if index >= count:
        raise RecipeError(
            f"{volume.case} has no slice {index}",
            where="training_slice",
            allowed=f"0 to {count - 1}",
        )
    return volume.case, index, np.ascontiguousarray(volume.data[0, :, :, index])


def named(target: Cohort, name: str) -> Case:
    """The case of that name."""
    for case in target.cases:
        if case.case == name:
            return case
    raise RecipeError(
        f"no target case is named {name!r}",
        where="training_case",
        allowed=", ".join(case.case for case in target.cases[:10]),
    )


def lesion_level(labeled: Cohort, label: int) -> float:
    """Median height of a structure, as a fraction of the axial extent of its image.

    A fraction, because scanner coordinates of different patients share no origin.
    """
    levels = []
    for pair in labeled.pairs():
        indices = np.flatnonzero((pair.labels == label).any(axis=(0, 1)))
        if indices.size:
            levels.append((indices.mean() + 0.5) / pair.labels.shape[2])
    if not levels:
        raise DataError("no labeled image holds the structure", where="structure")
    return float(np.median(levels))


def index_at(volume: Volume, level: float) -> int:
    """The axial slice at a fraction of the extent."""
    return min(int(level * volume.grid[2]), volume.grid[2] - 1)


def head_area(volume: Volume, level: float) -> int:
    """Voxels of a slice above half the mean intensity of its volume."""
    image = volume.data[0]
    return int((image[:, :, index_at(volume, level)] > image.mean() / 2).sum())
