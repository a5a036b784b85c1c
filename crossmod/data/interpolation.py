"""Values between voxels: linear or cubic B-spline interpolation on another grid.

Both are linear in the data and separable. Where the axes of the grids are parallel, all that
happens along one axis, the prefilter of the spline included, is one matrix with few numbers in each
row, and three products of matrices interpolate a volume. SimpleITK, which gives the same values,
interpolates where grids are turned against each other.

Source of the spline: Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal
Processing Magazine 16(6), 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Affine, FloatArray

Interpolation: TypeAlias = Literal["linear", "cubic"]
"""Linear, or by the cubic B-spline that runs through all voxels."""

Box = tuple[slice, ...]
"""A part of a grid: the voxels from start to stop along I, J, K."""

Weights: TypeAlias = tuple[NDArray[np.intp], NDArray[np.float64]]
"""``(positions, taps)``: the voxels that are read at each position, and their weights."""

Blocks: TypeAlias = Sequence[tuple[slice, slice, FloatArray]]
"""Of a matrix along one axis: new voxels, voxels of the data that they depend on, weights."""

ASIDE = 1e-4
"""Voxels by which a line of one grid may leave that of another and still count as parallel: affines
kept in single precision differ by less, turned grids by more."""

STEP = 2.0**-23
"""Voxels to which positions are rounded: noise vanishes, and linear weights are exact in single
precision."""

POLE = np.sqrt(3) - 2
"""Of the filter that turns voxels into coefficients of cubic B-splines."""

NOTHING = 1e-8
"""Weights below this count as zero: single precision would not show them."""

REACH = 15
"""Voxels to either side that a cubic spline depends on; those beyond weigh less than that."""

ROWS = 16
"""Rows of a matrix that are multiplied at once; more would multiply more zeros."""

MOST_PRODUCTS = 2**18
"""Multiplications at once, few enough for OpenBLAS to do them in the calling thread: its threads
would wait for each other more than they work, and might change the last bits."""


def box_around(matrix: Affine, inner: Sequence[int], outer: Sequence[int]) -> Box:
    """The voxels around the extent of another grid: all that interpolation inside it reads.

    Args:
        matrix: voxel of the other grid -> voxel of this one.
        inner: shape of the other grid.
        outer: shape of this grid, which the box does not leave.
    """
    ends = [(-0.5, n - 0.5) for n in inner]
    corners = np.array(list(product(*ends))) @ matrix[:3, :3].T + matrix[:3, 3]
    start = np.clip(np.floor(corners.min(axis=0)), 0, outer).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 1, start, outer).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def interpolated(
    data: NDArray[np.generic],
    matrix: Affine,
    shape: Sequence[int],
    outside: float,
    how: Interpolation = "linear",
) -> FloatArray:
    """Interpolate at the voxels of another grid.

    Up to half a voxel beyond the outermost voxel centers, linear interpolation has the value there
    and the spline is mirrored.

    Args:
        data: ``(I, J, K)``, finite.
        matrix: voxel of the other grid -> voxel of the data.
        shape: of the other grid.
        outside: value of voxels that lie farther beyond.
        how: linear, or cubic, which overshoots at edges.

    Returns:
        float32 values, in the order in memory that the data have.

    Raises:
        ValueError: the axes of the grids are not parallel, which cubic interpolation needs.
    """
    axes = _parallel_axes(matrix, shape)
    if axes is None and how == "cubic":
        raise ValueError("cubic interpolation needs grids with parallel axes")
    if axes is None:
        return _by_itk(data, matrix, shape, outside)
    turned = data.transpose(axes)
    positions = []
    for axis, (n, old) in enumerate(zip(shape, axes, strict=True)):
        along = matrix[old, 3] + matrix[old, axis] * np.arange(n)
        if turned.strides[axis] < 0:
            turned, along = np.flip(turned, axis), turned.shape[axis] - 1 - along
        positions.append(np.round(along / STEP) * STEP)
    # Rows that lie in one piece in memory go last, an axis of a single voxel goes first.
    order = sorted(range(3), key=lambda axis: (data.shape[axes[axis]] > 1, -turned.strides[axis]))
    result = _separably(turned.transpose(order), [positions[axis] for axis in order], outside, how)
    return result.transpose(np.argsort(order))


def _parallel_axes(matrix: Affine, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The axis of the data along which each axis of the other grid runs; None if one does not."""
    moved = np.abs(matrix[:3, :3]) * (np.array(shape) - 1)
    axes = max(permutations(range(3)), key=lambda axes: moved[axes, range(3)].sum())
    moved[axes, range(3)] = 0
    return axes if moved.sum(axis=1).max() <= ASIDE else None


@dataclass(frozen=True)
class _Side:
    """Interpolation along one axis.

    Attributes:
        inside: the new voxels that lie within the data.
        used: the voxels of the data that these depend on.
        blocks: of the matrix; none if it changes nothing.
    """

    inside: slice
    used: slice
    blocks: Blocks


def _separably(
    data: NDArray[np.generic],
    positions: Sequence[NDArray[np.float64]],
    outside: float,
    how: Interpolation,
) -> FloatArray:
    """Interpolate at all combinations of the positions along each axis.

    Axes that lose voxels come first, so that nothing between is larger than the data or the result.
    """
    result = np.empty([len(along) for along in positions], np.float32)
    sides = [_side(along, n, how) for along, n in zip(positions, data.shape, strict=True)]
    inner = result[tuple(side.inside for side in sides)]
    if inner.size < result.size:
        result.fill(outside)
    if inner.size == 0:
        return result
    values = data[tuple(side.used for side in sides)].astype(np.float32, copy=False)
    if values.strides[-1] != values.itemsize:
        values = np.ascontiguousarray(values)
    growth = np.divide(inner.shape, values.shape)
    order = sorted(range(3), key=lambda axis: (bool(sides[axis].blocks), growth[axis]))
    _in_order(values, sides, order, inner)
    return result


def _in_order(
    values: FloatArray, sides: Sequence[_Side], order: Sequence[int], out: FloatArray
) -> None:
    """Interpolate along one axis after the other, a few slices of the first axis at a time.

    What lies between two steps is small then, and stays in the processor's cache.
    """
    steps = [(axis, sides[axis].blocks) for axis in order if sides[axis].blocks]
    if not steps:
        out[...] = values
    at = next((n for n, (axis, _) in enumerate(steps) if axis == 0), len(steps))
    before, after = steps[:at], steps[at + 1 :]
    if before:
        shape = [*values.shape]
        for axis, _ in before:
            shape[axis] = out.shape[axis]
        target = np.empty(shape, np.float32) if sides[0].blocks else out
        for start in range(0, len(values), ROWS):
            some = slice(start, start + ROWS)
            _chain(values[some], before, target[some])
        values = target
    for rows, columns, matrix in sides[0].blocks:
        whole = [(slice(len(matrix)), slice(matrix.shape[1]), matrix)]
        _chain(values[columns], [(0, whole), *after], out[rows])


def _chain(values: FloatArray, steps: Sequence[tuple[int, Blocks]], out: FloatArray) -> None:
    """Interpolate along some axes, one after the other."""
    for axis, blocks in steps[:-1]:
        shape = [*values.shape]
        shape[axis] = out.shape[axis]
        values = _along(axis, values, blocks, np.empty(shape, np.float32))
    axis, blocks = steps[-1]
    _along(axis, values, blocks, out)


def _side(positions: NDArray[np.float64], n: int, how: Interpolation) -> _Side:
    found = np.flatnonzero((positions >= -0.5) & (positions < n - 0.5))
    if not found.size:
        return _Side(slice(0), slice(0), [])
    inside = slice(int(found[0]), int(found[-1]) + 1)
    positions = positions[inside]
    first = int(positions[0])
    if np.array_equal(positions, first + np.arange(len(positions))):
        return _Side(inside, slice(first, first + len(positions)), [])
    taps, weights = (_linear if how == "linear" else _cubic)(positions, n)
    used = _span(taps)
    blocks = []
    for start in range(0, len(positions), ROWS):
        rows = slice(start, min(start + ROWS, len(positions)))
        columns = _span(taps[rows] - used.start)
        matrix = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
        read = taps[rows] - used.start - columns.start
        np.add.at(matrix, (np.arange(len(matrix))[:, None], read), weights[rows])
        blocks.append((rows, columns, matrix.astype(np.float32)))
    return _Side(inside, used, blocks)


def _span(numbers: NDArray[np.intp]) -> slice:
    return slice(int(numbers.min()), int(numbers.max()) + 1)


def _linear(positions: NDArray[np.float64], n: int) -> Weights:
    below = np.floor(positions).astype(np.intp)
    share = positions - below
    return np.clip(below[:, None] + [0, 1], 0, n - 1), np.stack([1 - share, share], axis=1)


def _cubic(positions: NDArray[np.float64], n: int) -> Weights:
    """Weights of the interpolating spline: B-splines of coefficients, which decay with the pole."""
    below = np.floor(positions).astype(np.intp)
    splines, taps = np.arange(-1, 3), np.arange(-REACH, REACH + 2)
    apart = np.abs((positions - below)[:, None] - splines)
    heights = np.where(apart < 1, 2 / 3 - apart**2 + apart**3 / 2, (2 - apart) ** 3 / 6)
    coefficients = np.sqrt(3) * POLE ** np.abs(splines[:, None] - taps)
    weights = heights @ coefficients
    weights[np.abs(weights) < NOTHING] = 0
    period = max(2 * (n - 1), 1)
    mirrored = (below[:, None] + taps) % period
    return np.minimum(mirrored, period - mirrored), weights


def _along(axis: int, values: FloatArray, blocks: Blocks, out: FloatArray) -> FloatArray:
    """Interpolate ``(I, J, K)`` values along one axis; K lies in one piece in memory."""
    if axis < 2:  # a stack of matrices, each with this axis before K
        values, result = np.moveaxis(values, 1 - axis, 0), np.moveaxis(out, 1 - axis, 0)
    for rows, columns, matrix in blocks:
        size = max(MOST_PRODUCTS // matrix.size, 1)
        for start in range(0, values.shape[2 if axis < 2 else 1], size):
            some = slice(start, start + size)
            if axis < 2:
                np.matmul(matrix, values[:, columns, some], out=result[:, rows, some])
            else:
                np.matmul(values[:, some, columns], matrix.T, out=out[:, some, rows])
    return out


def _by_itk(
    data: NDArray[np.generic], matrix: Affine, shape: Sequence[int], outside: float
) -> FloatArray:
    """Interpolate linearly on a grid that is turned against the data; ITK stores ``(K, J, I)``."""
    import SimpleITK as sitk

    box = box_around(matrix, shape, data.shape)
    part = data[box].astype(np.float32, copy=False)
    if part.size == 0:
        return np.full(shape, outside, np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(part.T))
    turn = sitk.AffineTransform(3)
    turn.SetMatrix(matrix[:3, :3].ravel().tolist())
    turn.SetTranslation((matrix[:3, 3] - [one.start for one in box]).tolist())
    other = sitk.Image([int(n) for n in shape], sitk.sitkUInt8)
    result = sitk.Resample(image, other, turn, sitk.sitkLinear, outside, sitk.sitkFloat32)
    values: FloatArray = sitk.GetArrayFromImage(result).T
    return values
