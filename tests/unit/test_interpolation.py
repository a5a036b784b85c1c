"""Interpolation by matrices against SimpleITK, which knows nothing of them."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from crossmod.data.grids import Grid, Preprocess, resample, to_common
from crossmod.data.interpolation import Interpolation, interpolated

HOW: dict[Interpolation, int] = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
NEAR = 5e-5  # of the range: positions are rounded to 6e-8 voxel, weights to single precision
RANGE = 200
OUTSIDE = -3.0


def as_itk(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """An ITK image of ``(I, J, K)`` data: LPS+ mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing.tolist())
    # Rounded, because ITK inverts matrices with numbers near the smallest double wrongly.
    image.SetDirection(np.round(lps @ affine[:3, :3] / spacing, 12).ravel().tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    return image


def by_itk(data: np.ndarray, affine: np.ndarray, grid: Grid, how: Interpolation) -> np.ndarray:
    target = as_itk(np.zeros(grid.shape, np.uint8), grid.affine)
    image = as_itk(data.astype(np.float32), affine)
    found = sitk.Resample(image, target, sitk.Transform(), HOW[how], OUTSIDE, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(found).T


def at_the_border(shape: tuple[int, ...], affine: np.ndarray, grid: Grid) -> np.ndarray:
    """The voxels of a grid where the extent of the data ends: inside or outside is luck."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    matrix = np.linalg.inv(affine) @ grid.affine
    places = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    ends = np.stack([np.full(3, -0.5), np.array(shape) - 0.5])
    return (np.abs(places[..., None, :] - ends) < 1e-5).any(axis=(-1, -2))


def stored(array: np.ndarray, layout: str) -> np.ndarray:
    """The same array in another order in memory."""
    if layout == "padded":
        padded = np.zeros([n + 3 for n in array.shape], array.dtype)
        padded[1:-2, 1:-2, 1:-2] = array
        return padded[1:-2, 1:-2, 1:-2]
    if layout == "backward":
        return np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1]
    return np.asarray(array, order=layout)  # type: ignore[call-overload]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Noise of any type and layout on one grid, and another grid with parallel axes."""

    def some(low: float, high: float) -> np.ndarray:
        return np.array([draw(st.floats(low, high)) for _ in range(3)])

    def shape(most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(1, most)) for _ in range(3))

    kind = draw(st.sampled_from([np.float32, np.float64, np.int16, np.uint8]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    data = (rng.random(shape(24)) * RANGE).astype(kind)
    turn = np.eye(3)
    if draw(st.booleans()):
        turn = Rotation.from_euler("xyz", some(-180, 180), degrees=True).as_matrix()
    affine, other = np.eye(4), np.eye(4)
    affine[:3, :3] = turn * some(0.3, 3)
    affine[:3, 3] = some(-50, 50)
    signs = np.array([draw(st.sampled_from([-1, 1])) for _ in range(3)])
    turned = (turn * signs)[:, draw(st.permutations(range(3)))]
    other[:3, :3] = turned * some(0.3, 3)
    grid = Grid(shape(40), other)
    # Their middles lie so far apart that they overlap, in part or as a whole.
    apart = affine[:3, :3] @ (np.array(data.shape) * some(-0.6, 0.6))
    middle = affine[:3, :3] @ ((np.array(data.shape) - 1) / 2) + affine[:3, 3] + apart
    other[:3, 3] = middle - other[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return stored(data, draw(st.sampled_from(["C", "F", "padded", "backward"]))), affine, grid


@pytest.mark.parametrize("how", HOW)
@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_values_are_those_of_simpleitk(
    how: Interpolation, case: tuple[np.ndarray, np.ndarray, Grid]
) -> None:
    data, affine, grid = case
    assume(how == "linear" or 2 not in data.shape)  # there ITK's spline reads beyond the volume
    before = data.copy()
    found = resample(data, affine, grid, OUTSIDE, how)
    assert (found.dtype, found.shape) == (np.float32, grid.shape)
    sure = ~at_the_border(data.shape, affine, grid)
    expected = by_itk(data, affine, grid, how)
    np.testing.assert_allclose(found[sure], expected[sure], atol=NEAR * RANGE)
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("order", permutations(range(3)))
@pytest.mark.parametrize(
    "steps", [(0.5, 0.8, 2), (2, 0.5, 0.8), (0.8, 2, 0.5), (1, 2, 0.5), (2, 1, 1)]
)
def test_so_they_are_where_volumes_are_worked_on_in_parts(
    how: Interpolation, order: tuple[int, ...], steps: tuple[float, ...]
) -> None:
    """Whichever axes lose or gain voxels, and whichever of them comes first in memory."""
    shape = (37, 53, 41)
    whole = np.random.default_rng(0).uniform(-RANGE / 2, RANGE / 2, [shape[a] for a in order])
    data = whole.astype(np.float32).transpose(np.argsort(order))
    grid = Grid(tuple(int((n - 1) / step) for n, step in zip(shape, steps, strict=True)),
                np.diag([*steps, 1.0]))  # fmt: skip
    found = resample(data, np.eye(4), grid, OUTSIDE, how)
    expected = by_itk(data, np.eye(4), grid, how)
    np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR * RANGE)


@settings(max_examples=40, deadline=None)
@given(case=cases(), degrees=st.tuples(*[st.floats(1, 40)] * 3))
def test_turned_grids_have_the_values_of_simpleitk(
    case: tuple[np.ndarray, np.ndarray, Grid], degrees: tuple[float, float, float]
) -> None:
    data, affine, grid = case
    turned = grid.affine.copy()
    turned[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ turned[:3, :3]
    grid = Grid(grid.shape, turned)
    sure = ~at_the_border(data.shape, affine, grid)
    found = resample(data, affine, grid, OUTSIDE)
    expected = by_itk(data, affine, grid, "linear")
    np.testing.assert_allclose(found[sure], expected[sure], atol=NEAR * RANGE)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 40])
def test_a_spline_through_few_voxels_is_mirrored(n: int) -> None:
    data = np.random.default_rng(n).random((n, 1, 1), np.float32)
    places = np.linspace(-0.5, n - 0.51, 33)
    matrix = np.diag([places[1] - places[0], 1, 1, 1])
    matrix[0, 3] = -0.5
    found = interpolated(data, matrix, (33, 1, 1), OUTSIDE, "cubic")
    expected = map_coordinates(data[:, 0, 0].astype(float), [places], order=3, mode="mirror")
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=NEAR)


def test_a_spline_refuses_a_turned_grid() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 3, degrees=True).as_matrix()
    with pytest.raises(ValueError, match="parallel axes"):
        interpolated(np.zeros((9, 9, 9)), turned, (9, 9, 9), 0, "cubic")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("n", [1, 2, 3, 700])
def test_the_extent_ends_half_a_voxel_beyond_the_last_center(how: Interpolation, n: int) -> None:
    data = np.ones((n, 2, 2), np.float32)
    matrix = np.eye(4)
    for place, inside in [(-0.50001, 0), (-0.5, 1), (-0.4999, 1), (n - 0.501, 1), (n - 0.5, 0)]:
        matrix[0, 3] = place
        found = interpolated(data, matrix, (1, 2, 2), OUTSIDE, how)
        np.testing.assert_allclose(found, 1 if inside else OUTSIDE, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("layout", ["C", "F", "padded", "backward"])
def test_voxels_that_stay_where_they_are_keep_their_bits(how: Interpolation, layout: str) -> None:
    data = np.random.default_rng(0).standard_normal((20, 21, 22)).astype(np.float32) * 1e4
    data[5] = 0
    affine = np.diag([0.41, 0.77, 1.5, 1])
    affine[:3, :3] = (
        Rotation.from_euler("xyz", (12, -7, 33), degrees=True).as_matrix() @ affine[:3, :3]
    )
    affine[:3, 3] = (-91.7, 13.1, 55.3)
    whole = Grid(data.shape, affine)
    for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
        turned = np.transpose(np.flip(data, np.flatnonzero(flips)), order)
        change = np.diag([*(1 - 2 * np.array(flips)), 1.0])
        change[:3, 3] = flips * (np.array(data.shape) - 1)
        grid = Grid(turned.shape, (affine @ change)[:, [*order, 3]])
        found = resample(stored(data, layout), whole.affine, grid, OUTSIDE, how)
        np.testing.assert_array_equal(found, turned)
    box = (slice(3, 17), slice(0, 21), slice(5, 6))
    part = resample(stored(data, layout), affine, whole.part(box), OUTSIDE, how)
    np.testing.assert_array_equal(part, data[box])


def test_the_result_shares_no_memory_with_the_data() -> None:
    data = np.zeros((4, 4, 4), np.float32)
    found = resample(data, np.eye(4), Grid((3, 3, 3), np.eye(4)))
    found += 1
    assert not data.any()


@settings(max_examples=60, deadline=None)
@given(case=cases(), slopes=st.tuples(*[st.floats(-1, 1)] * 3))
def test_linear_interpolation_keeps_planes(
    case: tuple[np.ndarray, np.ndarray, Grid], slopes: tuple[float, float, float]
) -> None:
    data, affine, grid = case
    plane = sum(
        slope * axis for slope, axis in zip(slopes, np.indices(data.shape), strict=True)
    ).astype(np.float32)
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    matrix = np.linalg.inv(affine) @ grid.affine
    places = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    within = ((places >= 0) & (places <= np.array(data.shape) - 1)).all(axis=-1)
    found = resample(plane, affine, grid)
    np.testing.assert_allclose(found[within], (places @ slopes)[within], atol=1e-4)


def smooth(places: np.ndarray) -> np.ndarray:
    """A band-limited function of places in mm: periods of 5 to 9 mm."""
    x, y, z = np.moveaxis(places, -1, 0)
    return np.sin(2 * np.pi * x / 5) * np.cos(2 * np.pi * y / 7) + np.sin(2 * np.pi * z / 9)


def places_mm(grid: Grid) -> np.ndarray:
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def test_cubic_is_closer_to_a_smooth_function_than_linear() -> None:
    given = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.5, 1]))
    affine = np.diag([0.6, 0.6, 1.0, 1])
    affine[:3, 3] = 8
    grid = Grid((30, 30, 30), affine)
    expected = smooth(places_mm(grid))
    data = smooth(places_mm(given)).astype(np.float32)
    error = {
        how: np.abs(resample(data, given.affine, grid, 0.0, how) - expected).max() for how in HOW
    }
    assert error["cubic"] < error["linear"] / 5


def test_a_spline_leaves_the_range_of_the_scan_nowhere() -> None:
    """It overshoots beside edges; what is cut off would make air and crop margins gray."""
    image = np.full((50, 50, 20), 100, np.float32)
    image[15:35, 15:35, 5:15] = 1000
    options: dict[str, Any] = {"spacing_mm": (0.7, 0.7, 0.7), "crop": (90, 90)}
    linear, _, affine = to_common(image, None, np.eye(4), Preprocess(**options))
    cubic, _, _ = to_common(image, None, np.eye(4), Preprocess(**options, interpolation="cubic"))
    grid = Grid(cubic.shape, affine)
    assert resample(image, np.eye(4), grid, 100, "cubic").max() > 1050
    assert (cubic.min(), cubic.max()) == (0, 1)
    assert cubic[0, 0, 0] == 0  # beyond the scan
    assert cubic[linear == 1].min() > 0.9


def test_labels_do_not_depend_on_how_images_are_interpolated() -> None:
    rng = np.random.default_rng(0)
    image, labels = rng.random((20, 20, 9), np.float32), rng.integers(0, 3, (20, 20, 9), np.uint8)
    found = [
        to_common(image, labels, np.eye(4), Preprocess(spacing_mm=(0.7, 1.3, 1), interpolation=how))
        for how in HOW
    ]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert (found[0][0] != found[1][0]).any()
