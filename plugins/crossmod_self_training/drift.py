"""Signs that rounds of self-training go astray, in all cases together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crossmod import Cohort, LabelArray, keep_largest

FEWEST = 3
"""Cases below which nothing is said."""

TOGETHER = 0.8
"""Share of cases that change in the same direction when rounds drift."""

GROWTH = 1.25
"""Median factor of the volume, or one over it, that is too much."""

STRAY = 0.1
"""Volume on the other side, as a share of the lesion, that is too much in a case."""

ASTRAY = 0.25
"""Share of such cases that is too much in a round."""


def other_side_mm3(labels: LabelArray, label: int, affine: np.ndarray) -> float:
    """Volume of a structure in the other half of the image than its largest component, in mm3.

    The halves meet in the middle of the image along left and right: crop scans around the head.

    Args:
        labels: uint8 ``(I, J, K)`` before cleaning.
        label: the structure.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
    """
    mask = labels == label
    if not mask.any():
        return 0.0
    axis = int(np.abs(affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    sideways = np.moveaxis(mask, axis, 0)
    main = np.moveaxis(keep_largest(labels, label) == label, axis, 0)
    half = len(main) // 2
    halves = slice(0, half), slice(len(main) - half, None)
    away = min(halves, key=lambda part: int(np.count_nonzero(main[part])))
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    return voxel * int(np.count_nonzero(sideways[away] & ~main[away]))


def signs(
    figures: Mapping[str, Mapping[str, float]], first: Cohort | None, structure: str
) -> Iterator[str]:
    """What a person should look at, a line each.

    Args:
        figures: case -> what was found of it in this round.
        first: the pseudo-labels of the first round, if there was one.
        structure: class name.
    """
    if len(figures) >= FEWEST:
        yield from _strays(list(figures.values()), structure)
    if first is not None:
        yield from _growth(figures, first, structure)


def _strays(figures: Sequence[Mapping[str, float]], structure: str) -> Iterator[str]:
    volume, stray = f"volume_mm3_{structure}", f"other_side_mm3_{structure}"
    astray = sum(one[stray] > STRAY * one[volume] for one in figures)
    if astray >= ASTRAY * len(figures):
        yield (
            f"{astray} of {len(figures)} cases have {structure} on the other side of the head, too:"
            " see ledger.csv"
        )


def _growth(
    figures: Mapping[str, Mapping[str, float]], first: Cohort, structure: str
) -> Iterator[str]:
    label, ratios = first.classes[structure], []
    for case in first.cases:
        before = _mm3(case.pair().labels == label, case.volume().affine)
        now = figures.get(case.case, {}).get(f"volume_mm3_{structure}", 0.0)
        if before and now:
            ratios.append(now / before)
    if len(ratios) < FEWEST:
        return
    factor = float(np.median(ratios))
    for words, changed, too_much in (
        ("grew", sum(ratio > 1 for ratio in ratios), factor > GROWTH),
        ("shrank", sum(ratio < 1 for ratio in ratios), factor < 1 / GROWTH),
    ):
        if too_much and changed >= TOGETHER * len(ratios):
            yield (
                f"since the first round the {structure} {words} in {changed} of {len(ratios)}"
                f" cases, to {factor:.2f} times its volume in the median: the rounds may drift,"
                " see ledger.csv"
            )


def _mm3(mask: np.ndarray, affine: np.ndarray) -> float:
    return abs(float(np.linalg.det(affine[:3, :3]))) * int(np.count_nonzero(mask))
