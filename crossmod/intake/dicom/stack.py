"""Slices in order, evenly spaced, and the grid they make.

Scanners round positions: those of a real oblique series, written to 0.1 mm, lie up to 0.05 mm from
the grid, and its gaps of 7 mm differ by 1.4 %. So it is not gaps that are compared but places: each
slice must lie within `UNEVEN` of the slice distance from the even stack that fits all of them best.
That is how far a voxel of the result is from where it was measured. One gap that is 2 % too wide in
the middle of a stack, or an end slice that is 1 % off, is beyond it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.errors import DataError, listed
from crossmod.intake.dicom.frames import Frame, differing
from crossmod.intake.dicom.tags import unusable

UNEVEN = 0.01
"""Share of the slice distance by which a slice may lie off."""

ROUNDED_MM = 0.02
"""Less than this off is never too much: positions may be rounded to 0.01 mm."""

SAME_MM = 1e-3
"""Slices no further apart than this have the same position."""

ORTHONORMAL = 1e-4
"""How far lengths may be from 1 and cosines from 0."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

Vectors = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices that make a grid.

    Attributes:
        frames: in order along the normal of the slices.
        affine: ``(4, 4)`` voxel -> RAS+ mm; the axes run along rows, columns and slices.
    """

    frames: tuple[Frame, ...]
    affine: Vectors


def stack(frames: Sequence[Frame]) -> Stack:
    """Order slices and check that they make a grid.

    Raises:
        DataError: names what is missing, doubled, uneven, tilted, of another kind or does not
            belong.
    """
    if len(frames) < 2:
        raise DataError("holds a single slice", allowed="a 3D image")
    row, column = _axes(_common(frames))
    normal = np.cross(row, column)
    frames = sorted(frames, key=lambda one: float(np.array(one.position_mm) @ normal))
    places = np.array([one.position_mm for one in frames])
    heights = places @ normal
    index = np.arange(len(frames)) - (len(frames) - 1) / 2
    step = float(index @ heights / (index @ index))  # the line that fits best
    middle = places.mean(axis=0)
    off = places - middle - np.outer(index * step, normal)
    allowed = max(UNEVEN * step, ROUNDED_MM)
    if np.abs(off @ normal).max() > allowed or np.diff(heights).min() <= SAME_MM:
        raise DataError("\n".join(["its slices are not evenly spaced:", *_gaps(frames, heights)]))
    sideways = off - np.outer(off @ normal, normal)
    if np.linalg.norm(sideways, axis=1).max() > allowed:
        raise DataError("its slices are shifted sideways (a tilted gantry?)")
    _check_kind(frames)
    spacing = frames[0].spacing_mm
    affine = np.eye(4)
    axes = np.column_stack([row * spacing[0], column * spacing[1], normal * step])
    affine[:3, :3] = LPS_TO_RAS @ axes  # NIfTI turns the first two axes of DICOM
    affine[:3, 3] = LPS_TO_RAS @ (middle + index[0] * step * normal)
    return Stack(tuple(frames), affine)


def _common(frames: Sequence[Frame]) -> Frame:
    """A frame whose size, spacing and orientation are those of all.

    Raises:
        DataError: names those that differ from most.
    """
    forms = np.array([(*one.directions, *one.spacing_mm, *one.size) for one in frames])
    counted = Counter(map(tuple, forms.round(4)))
    most = counted.most_common(1)[0][0]
    first = int((forms.round(4) == most).all(axis=1).argmax())
    odd = (np.abs(forms - forms[first]) > ORTHONORMAL).any(axis=1)
    if odd.any():
        names = list(dict.fromkeys(one.file for one, differs in zip(frames, odd, strict=True)
                                   if differs))  # fmt: skip
        raise DataError(
            f"size, spacing or orientation of {listed(names)} differ from the other"
            f" {len(frames) - int(odd.sum())} slices",
            fix="remove what does not belong to the stack, such as a scout",
        )
    return frames[first]


def _check_kind(frames: Sequence[Frame]) -> None:
    """Echoes, phases or patients may fill each other's gaps; a stack is of one kind.

    Raises:
        DataError: names the tags that differ, and the files that are not of the kind of most.
    """
    most = Counter(one.kind for one in frames).most_common(1)[0][0]
    odd = {one: differ for one in frames if (differ := differing(one.kind, most))}
    if odd:
        tags = dict.fromkeys(tag for found in odd.values() for tag in found)
        names = list(dict.fromkeys(one.file for one in odd))
        raise DataError(
            f"its slices differ in kind: {len(odd)} of {len(frames)}, in {listed(names)},"
            f" differ from the others in {', '.join(tags)}",
            fix="split the series into one folder or file per kind",
        )


def _axes(one: Frame) -> tuple[Vectors, Vectors]:
    """Unit vectors along a row and along a column, made exactly perpendicular."""
    row, column = np.array(one.directions[:3]), np.array(one.directions[3:])
    wrong = (row @ row - 1, column @ column - 1, row @ column)
    if np.abs(wrong).max() > ORTHONORMAL:
        raise unusable("ImageOrientationPatient", one.file)
    row /= np.linalg.norm(row)
    column -= row * (row @ column)
    return row, column / np.linalg.norm(column)


def _gaps(frames: Sequence[Frame], heights: Vectors) -> list[str]:
    """A line for each gap that is not like the others."""
    gaps = np.diff(heights)
    apart = gaps[gaps > SAME_MM]
    step = float(np.median(apart)) if apart.size else 0.0
    off = np.abs(gaps - step)
    gross = np.flatnonzero((gaps <= SAME_MM) | (gaps > 1.5 * step))
    fine = np.flatnonzero(off > max(UNEVEN * step, ROUNDED_MM))
    odd = gross if gross.size else fine if fine.size else [int(off.argmax())]
    lines = [_gap(frames[i], frames[i + 1], heights[i], gaps[i], step) for i in map(int, odd)]
    return lines[:10] + ([f"  and {len(lines) - 10} more"] if len(lines) > 10 else [])


def _gap(low: Frame, high: Frame, low_mm: float, gap_mm: float, step_mm: float) -> str:
    if gap_mm <= SAME_MM:
        differ = differing((*low.kind, *low.marks), (*high.kind, *high.marks))
        what = "two slices at the same position" + (
            f", apart in {', '.join(differ)}" if differ else ""
        )
    elif gap_mm > 1.5 * step_mm:
        what = "slices are missing"
    else:
        what = "uneven"
    ends = f"{low_mm:.2f} to {low_mm + gap_mm:.2f} mm"
    return f"  {ends}: {what} (elsewhere {step_mm:.2f} mm apart)"
