"""The choice of the one slice that SinGAN learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crossmod import Case, Cohort, DataError, FloatArray, RecipeError, Volume
from crossmod_singan_gba.level import MeanHead

SHOWN_MM = (-12.0, -6.0, 0.0, 6.0, 12.0)
"""Levels of the slices that are shown, from the chosen one."""

DOUBTFUL = 0.56
"""Likenesses below this are not enough: on the embedded cohort, images of the target's modality
have 0.59 to 0.86 and are at most 4 mm off, those translated as in the quickstart 0.66 to 0.80;
others have 0.25 to 0.54 and are up to 15 mm off. It lies between 0.54 and 0.59."""


@dataclass(frozen=True)
class Choice:
    """The slice to learn, among its neighbors.

    Attributes:
        case: the target case.
        index: which axial slice.
        slices: some slices ``(I, J)`` of the case by index, the chosen one among them.
        likeness: of the level to that of the lesions, 1 being the same; None if it was given.
    """

    case: str
    index: int
    slices: Mapping[int, FloatArray]
    likeness: float | None = None

    @property
    def image(self) -> FloatArray:
        """The slice to learn, ``(I, J)``."""
        return self.slices[self.index]

    def lines(self) -> list[str]:
        """What to tell the user."""
        shown = ", ".join(map(str, self.slices))
        lines = [
            f"SinGAN learns slice {self.index} of {self.case}. Its picture 'training slice' shows"
            f" slices {shown}. To learn another, set training_case and training_slice"
        ]
        if self.likeness is not None and self.likeness < DOUBTFUL:
            lines.append(
                f"warning: slice {self.index} of {self.case} may miss the level of the lesions:"
                f" labeled images look too different (likeness {self.likeness:.2f}, expected above"
                f" {DOUBTFUL}). See the picture 'training slice'"
            )
        return lines


def choose_slice(
    labeled: Cohort, target: Cohort, label: int, case: str | None, index: int | None
) -> Choice:
    """Pick an axial slice of a target image.

    A given case and index are obeyed. Otherwise the slice lies at the level of the lesions, and
    the case is the one whose head has there the area closest to the median over all cases.

    Raises:
        DataError: no target image, or no labeled lesion to know the level from.
        RecipeError: the case or the index does not exist.
    """
    if not target.cases:
        raise DataError("the target cohort is empty", where="fit_on")
    if case is not None and index is not None:
        return chosen(named(target, case).volume(), index)
    head = MeanHead(labeled.pairs(), label)
    candidates = target.cases if case is None else (named(target, case),)
    found = [seen(one.volume(), head) for one in candidates]
    areas = np.array([area for _, _, area in found])
    middle = int(np.argmin(np.abs(areas - np.median(areas))))
    level, likeness, _ = found[middle]
    return chosen(candidates[middle].volume(), level, likeness)


def seen(volume: Volume, head: MeanHead) -> tuple[int, float, int]:
    """Slice at the level of the lesions, likeness to the labeled heads, area of the head there."""
    index, likeness = head.find(volume)
    return index, likeness, head_area(volume, index)


def chosen(volume: Volume, index: int, likeness: float | None = None) -> Choice:
    """That slice of an image, and some above and below it."""
    last = volume.grid[2] - 1
    if index > last:
        raise RecipeError(
            f"{volume.case} has no slice {index}", where="training_slice", allowed=f"0 to {last}"
        )
    steps = (round(mm / volume.spacing_mm[2]) for mm in SHOWN_MM)
    shown = sorted({min(max(index + step, 0), last) for step in steps})
    slices = {k: np.ascontiguousarray(volume.data[0, :, :, k]) for k in shown}
    return Choice(volume.case, index, slices, likeness)


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


def head_area(volume: Volume, index: int) -> int:
    """Voxels of a slice above half the mean intensity of its volume."""
    image = volume.data[0]
    return int((image[:, :, index] > image.mean() / 2).sum())
