"""Whether the crops of source and target scans show heads at the same place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crossmod.data.volumes import Cohort, Volume
from crossmod.scores.shift import in_voxels, shift_mm
from crossmod.scores.survival import SHIFTED_VOXELS, told

AVERAGED = 30
"""Scans of a center that are averaged, at most."""


def crops_that_differ(source: Cohort, target: Cohort) -> Iterator[str]:
    """Centers whose mean target image lies more than half a voxel off the mean source image.

    A discriminator sees where a head lies in its crop, so that a translator learns to move it, and
    labels stay behind.
    """
    for center in sorted({case.center for case in source.cases}):
        one, other = (_mean(cohort, center) for cohort in (source, target))
        if one is None or other is None or one.grid != other.grid:
            continue
        moved = shift_mm(one, other)
        voxels = in_voxels(one, moved)
        if np.abs(voxels).max() > SHIFTED_VOXELS:  # no edges: NaN, which is not above
            where = f" of center {center}" if center else ""
            yield (
                f"crops of target scans{where} show heads {told(moved)} those of source scans, more"
                " than half a voxel: a translator may learn to move them, and labels stay behind"
            )


def _mean(cohort: Cohort, center: str) -> Volume | None:
    """The mean of some scans of a center, on the grid of the first; None without any."""
    cases = [case for case in cohort.cases if case.center == center]
    volumes = [case.volume() for case in cases[:: -(-len(cases) // AVERAGED) or 1]]
    if not volumes:
        return None
    total = np.zeros(volumes[0].data.shape)
    alike = [volume for volume in volumes if volume.grid == volumes[0].grid]
    for volume in alike:
        total += volume.read()
    return volumes[0].with_data((total / len(alike)).astype(np.float32))
