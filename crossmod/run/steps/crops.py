"""Whether the crops of source and target scans show heads at the same place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crossmod.data.cases import centers_to_compare
from crossmod.data.cohorts import Cohort
from crossmod.scores.shift import in_voxels, mean_shift_mm
from crossmod.scores.survival import SHIFTED_VOXELS, told


def crops_that_differ(source: Cohort, target: Cohort) -> Iterator[str]:
    """Centers whose mean target image lies more than half a voxel off the mean source image.

    A discriminator sees where a head lies in its crop, so that a translator learns to move it, and
    labels stay behind. Centers are compared one by one; all together if none has both modalities.
    """
    found = ({case.center for case in images.cases} for images in (source, target))
    for centers in centers_to_compare(*found):
        one, other = _of(source, centers), _of(target, centers)
        moved = mean_shift_mm(one, other)
        if np.isnan(moved).any():
            continue
        voxels = in_voxels(one.cases[0].volume(), moved)
        if np.abs(voxels).max() > SHIFTED_VOXELS:
            where = f" of center {min(centers)}" if len(centers) == 1 and any(centers) else ""
            yield (
                f"crops of target scans{where} show heads {told(moved)} those of source scans, more"
                " than half a voxel: a translator may learn to move them, and labels stay behind"
            )


def _of(images: Cohort, centers: set[str]) -> Cohort:
    return images.only(lambda case: case.center in centers)
