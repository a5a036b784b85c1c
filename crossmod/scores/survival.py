"""What translation makes of labeled structures: do they keep their contrast, texture and edge?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cases import copied_from
from crossmod.data.cohorts import Case, Cohort
from crossmod.data.lesions import SHELL_VOXELS
from crossmod.data.volumes import LabelArray, Pair, Volume
from crossmod.files.tables import read_csv, write_csv
from crossmod.scores.recovery import Recovery, recover
from crossmod.scores.shift import in_voxels, median_shift, shift_mm

ERASED = 0.1
"""A translation that shows less than this share of what its source shows has erased a structure.

What an image shows is the Dice of the small segmenter beyond that of knowing the place alone. Half
would be too much to ask: tumors are of one brightness in T1 and of many in T2, so that the true
T2 of the same patients of the embedded cohort shows a fifth of what their T1 does.
"""

SHOWN = 0.1
"""Structures that the source itself shows less well than this are not judged."""

SHIFTED_VOXELS = 0.5
"""Median shift of a center above which labels no longer lie where the anatomy is."""

TABLE = "survival.csv"

LOOKS = ("mean", "contrast", "spread", "sharpness")

COLUMNS = (
    "case", "center", "structure", "image",
    *LOOKS, *(f"{name}_translated" for name in LOOKS),
    "recovery", "recovery_translated", "recovery_by_position",
    "shift_right_mm", "shift_front_mm", "shift_up_mm", "shift_voxels",
)  # fmt: skip
"""Of ``survival.csv``; a target scan has the figures of one image, those without an ending."""

TRANSLATION, TARGET = "translation", "target"
"""What a row is about: a translation and its source, or a real target scan."""


@dataclass(frozen=True)
class Look:
    """What a structure looks like in one image; intensities are in [0, 1].

    Attributes:
        mean: mean intensity inside.
        contrast: mean inside minus mean of a rim of 3 voxels around it.
        spread: standard deviation inside.
        sharpness: mean gradient magnitude over the voxels on both sides of its border, per mm.
    """

    mean: float
    contrast: float
    spread: float
    sharpness: float


def look(image: Volume, labels: LabelArray, label: int) -> Look | None:
    """Measure the structure with value ``label`` in ``labels`` ``(I, J, K)``; None without it."""
    inside = labels == label
    if not inside.any():
        return None
    box = _box(inside, SHELL_VOXELS + 1)
    inside, values = inside[box], np.asarray(image.data[0][box], dtype=np.float64)
    rim = _grown(inside, SHELL_VOXELS) & (labels[box] == 0)
    border = _grown(inside, 1) & _grown(~inside, 1)
    mean = float(values[inside].mean())
    around = float(values[rim].mean()) if rim.any() else mean
    steps = np.gradient(values, *image.spacing_mm)
    slope = np.sqrt(sum(step**2 for step in steps))
    return Look(mean, mean - around, float(values[inside].std()), float(slope[border].mean()))


def _box(inside: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """The part of a volume that holds a structure and what is around it, 2 voxels at least."""
    found = np.argwhere(inside)
    low, high = found.min(axis=0) - margin, found.max(axis=0) + margin + 1
    return tuple(slice(max(0, a), b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _grown(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    from scipy import ndimage

    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=voxels)
    return grown


@dataclass(frozen=True)
class Survival:
    """A structure of one translation, and of the source it was made from.

    Attributes:
        case: of the translation.
        center: the hospital it comes from.
        structure: name of the class.
        before: the look in the source.
        after: the look in the translation.
        recovery: how well it was found in the source.
        recovery_translated: the same in the translation; NaN where there is only one patient.
        shift_mm: how far the translation lies right of, in front of and above its source.
        shift_voxels: the same along the axes of the grid.
    """

    case: str
    center: str
    structure: str
    before: Look
    after: Look
    recovery: Recovery
    recovery_translated: Recovery
    shift_mm: tuple[float, float, float]
    shift_voxels: tuple[float, float, float]


NOT_FOUND = Recovery(math.nan, math.nan)


def survivals(
    source: Cohort,
    translated: Cohort,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> list[Survival]:
    """Measure each structure of each translation.

    Args:
        source: labeled images.
        translated: their translations, of the same names or ``{name}+{suffix}``.
        progress: wraps the translations.
    """
    found, found_after = recover(source), recover(translated)
    origins = {case.case: case for case in source.cases}
    rows = []
    for case in progress(translated.cases):
        first = origin(case.case, origins)
        before, after = first.pair(), case.pair()
        moved = shift_mm(before.image, after.image)
        voxels = in_voxels(before.image, moved)
        for name, one, other in _looks(before, after, source):
            rows.append(
                Survival(
                    case.case, case.center, name, one, other,
                    found.get((first.case, name), NOT_FOUND),
                    found_after.get((case.case, name), NOT_FOUND),
                    tuple(moved.tolist()), tuple(voxels.tolist()),
                )
            )  # fmt: skip
    return rows


def origin(name: str, cases: dict[str, Case]) -> Case:
    """The case that a translation was made from: the one of its name, or that it is a copy of."""
    return cases[name if name in cases else copied_from(name, cases) or name]


def _looks(before: Pair, after: Pair, source: Cohort) -> Iterator[tuple[str, Look, Look]]:
    for name, label in source.classes.items():
        one = look(before.image, before.labels, label)
        other = look(after.image, after.labels, label)
        if one and other:
            yield name, one, other


class Row(NamedTuple):
    """A row of ``survival.csv``: names, what it is about, and the figures by column."""

    case: str
    center: str
    structure: str
    image: str
    figures: dict[str, float]

    @classmethod
    def of(cls, one: Survival) -> Row:
        """What became of a structure."""
        looks = [getattr(each, name) for each in (one.before, one.after) for name in LOOKS]
        recovered = (one.recovery.dice, *one.recovery_translated)
        values = (*looks, *recovered, *one.shift_mm, max(map(abs, one.shift_voxels)))
        figures = dict(zip(COLUMNS[4:], values, strict=True))
        return cls(one.case, one.center, one.structure, TRANSLATION, figures)


def target_rows(pair: Pair, classes: Mapping[str, int]) -> Iterator[Row]:
    """What each structure looks like in a target scan, by its pseudo-label."""
    for name, label in classes.items():
        if found := look(pair.image, pair.labels, label):
            figures = dict.fromkeys(COLUMNS[4:], math.nan) | vars(found)
            yield Row(pair.case, pair.center, name, TARGET, figures)


def write_survival(path: Path, rows: Iterable[Row]) -> None:
    """Write ``survival.csv``."""
    write_csv(path, COLUMNS, ([*row[:4], *row.figures.values()] for row in rows))


def read_survival(path: Path) -> list[Row]:
    """Read what `write_survival` wrote."""
    _, *lines = [row for _, row in read_csv(path)]
    return [
        Row(
            case,
            center,
            structure,
            image,
            dict(zip(COLUMNS[4:], map(_number, cells), strict=True)),
        )
        for case, center, structure, image, *cells in lines
    ]


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


def summary(rows: Sequence[Survival]) -> str:
    """Mean recovery of each structure before and after, and the median shift, in one line."""
    parts = []
    for name in dict.fromkeys(row.structure for row in rows):
        of = [row for row in rows if row.structure == name]
        before = _mean([row.recovery.dice for row in of])
        after = _mean([row.recovery_translated.dice for row in of])
        parts.append(f"{name} {before:.2f} -> {after:.2f}")
    line = f"recovery by a small segmenter, source -> translated: {', '.join(parts)}"
    shift = median_shift([row.shift_mm for row in rows])
    if shift is None:
        return line
    right, front, up = shift
    return f"{line}; median shift {right:+z.1f} mm right, {front:+z.1f} front, {up:+z.1f} up"


def findings(rows: Sequence[Survival]) -> list[str]:
    """What a translator has done that it must not: erased structures, shifted images."""
    found = []
    for name in dict.fromkeys(row.structure for row in rows):
        of = [row for row in rows if row.structure == name]
        before = _mean([row.recovery.dice - row.recovery.by_position for row in of])
        after = _mean(
            [row.recovery_translated.dice - row.recovery_translated.by_position for row in of]
        )
        if before > SHOWN and after < ERASED * before:
            dice = [_mean([r.dice for r in one]) for one in _recoveries(of)]
            found.append(
                f"translation erases '{name}': a small segmenter finds it with Dice {dice[0]:.2f}"
                f" in source images of other patients, with {dice[1]:.2f} in their translations"
            )
    for center in sorted({row.center for row in rows}):
        shifts = {row.case: row for row in rows if row.center == center}.values()
        mm = median_shift([row.shift_mm for row in shifts])
        voxels = median_shift([row.shift_voxels for row in shifts])
        if mm is not None and voxels is not None and np.abs(voxels).max() > SHIFTED_VOXELS:
            where = f" of center {center}" if center else ""
            found.append(
                f"translations{where} lie {told(mm)} their sources (median), more than half a"
                " voxel: labels no longer lie where the anatomy is"
            )
    return found


def told(mm: NDArray[np.floating]) -> str:
    """A shift in words, e.g. "1.6 mm in front of, 0.3 mm left of"."""
    words = (("right of", "left of"), ("in front of", "behind"), ("above", "below"))
    sized = [
        f"{abs(value):.1f} mm {pair[0 if value > 0 else 1]}"
        for value, pair in zip(mm.tolist(), words, strict=True)
        if abs(value) >= 0.05
    ]
    return ", ".join(sized)


def _recoveries(rows: Sequence[Survival]) -> tuple[list[Recovery], list[Recovery]]:
    return [row.recovery for row in rows], [row.recovery_translated for row in rows]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
