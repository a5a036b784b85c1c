from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from crossmod import DataError
from crossmod.data.grids import (
    Grid,
    Preprocess,
    require_moderate,
    resample,
    resample_labels,
    to_common,
    to_native,
)
from crossmod.data.outline import bright_center, head_middle

ORDERS = list(permutations(range(3)))
FLIPS = list(product((0, 1), repeat=3))
PAPER_GRID = Preprocess(spacing_mm=(0.6, 0.6, 1.0), crop=(256, 256))
TOLERANCE = 1e-5


def stored(
    array: np.ndarray,
    spacing: tuple[float, ...],
    order: tuple[int, ...] = (0, 1, 2),
    flips: tuple[int, ...] = (0, 0, 0),
    degrees: tuple[float, ...] = (0, 0, 0),
) -> tuple[np.ndarray, np.ndarray]:
    """An array given along R, A, S as a scanner might store it: axis order, flips, oblique."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(
        spacing
    )
    affine[:3, 3] = (7, -5, 11)
    array = np.transpose(array, order)
    affine[:, :3] = affine[:, list(order)]
    for axis in np.flatnonzero(flips):
        array = np.flip(array, axis)
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    return np.ascontiguousarray(array), affine


def upright(array: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]) -> np.ndarray:
    """Undo the order and flips of `stored`."""
    return np.transpose(np.flip(array, tuple(np.flatnonzero(flips))), np.argsort(order))


def ellipsoid(
    shape: tuple[int, ...], center: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    """A filled ellipsoid, all in voxels."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((x - c) / r) ** 2 for x, c, r in zip(axes, center, radii, strict=True)) < 1


def center_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]


def volume_mm3(mask: np.ndarray, affine: np.ndarray) -> float:
    return float(np.sum(mask) * abs(np.linalg.det(affine[:3, :3])))


def scan(
    order: tuple[int, ...], flips: tuple[int, ...], degrees: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head-like image with a labeled ball, stored in some way."""
    shape, spacing = (40, 44, 4), (1.0, 0.9, 1.5)
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    mm = [(axis - n / 2) * s for axis, n, s in zip(axes, shape, spacing, strict=True)]
    image = np.exp(-sum(x**2 for x in mm) / 200).astype(np.float32)
    ball = (sum((x - c) ** 2 for x, c in zip(mm, (4, -3, 0), strict=True)) < 25).astype(np.uint8)
    how = (order, flips, (degrees, degrees / 2, -degrees))
    image, affine = stored(image, spacing, *how)
    return image, stored(ball, spacing, *how)[0], affine


def test_results_do_not_depend_on_how_the_scan_was_stored() -> None:
    expected, labels, affine = to_common(*scan((0, 1, 2), (0, 0, 0), 17), PAPER_GRID)
    assert expected.shape == (256, 256, 6)
    for order, flips in product(ORDERS, FLIPS):
        found, found_labels, found_affine = to_common(*scan(order, flips, 17), PAPER_GRID)
        np.testing.assert_allclose(found_affine, affine, atol=1e-4)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert np.mean(found_labels != labels) < 1e-4


HEADS = {
    "small": ((120, 120, 8), (60, 60, 4), (18, 22, 30)),
    "off-center": ((220, 220, 8), (60, 160, 4), (50, 45, 30)),
    "cut by the edge of the scan": ((150, 150, 8), (10, 140, 4), (50, 45, 30)),
    "in a scan smaller than the crop": ((60, 70, 8), (30, 35, 4), (25, 30, 30)),
}


@pytest.mark.parametrize("center", ["bright", "head"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_the_crop_holds_the_whole_head_wherever_it_lies(
    head: tuple[tuple[int, ...], ...], center: str
) -> None:
    mask = ellipsoid(*head)
    noise = np.random.default_rng(0).random(mask.shape)
    image = (mask * (200 + 100 * noise) - 3).astype(np.float32)
    data, affine = stored(image, (1.0, 1.0, 1.5))
    options = Preprocess(spacing_mm=(0.6, 0.6, 1.0), crop=(256, 256), center=center)
    found, labels, common = to_common(data, mask.astype(np.uint8), affine, options)
    assert found.shape == (256, 256, 12)
    assert (found.min(), found.max()) == (0, 1)
    assert np.all(found[labels == 0] < 0.6)  # what lies outside the scan is as dark as air
    assert volume_mm3(labels == 1, common) == pytest.approx(volume_mm3(mask, affine), rel=0.03)
    np.testing.assert_allclose(center_mm(labels == 1, common), center_mm(mask, affine), atol=0.3)


@pytest.mark.parametrize("slices", [1, 2, 3, 81])
@pytest.mark.parametrize("thickness_mm", [0.3, 0.5, 1.0, 1.5, 4.5])
def test_thin_scans_keep_every_slice(slices: int, thickness_mm: float) -> None:
    image = np.zeros((40, 40, slices), np.float32)
    image[8:32, 10:30] = 1
    data, affine = stored(image, (1.0, 1.0, thickness_mm))
    options = Preprocess(spacing_mm=(1.0, 1.0, 1.0), crop=(36, 36))
    found, labels, common = to_common(data, image.astype(np.uint8), affine, options)
    assert labels is not None
    assert abs(found.shape[2] - slices * thickness_mm) <= max(0.501, 1 - slices * thickness_mm)
    assert np.all(found.sum(axis=(0, 1)) == 24 * 20)  # none is black
    np.testing.assert_array_equal(found, labels)
    middle = center_mm(labels == 1, common)
    np.testing.assert_allclose(middle, center_mm(image == 1, affine), atol=0.5)


def outline_is_near(mask: np.ndarray, voxels: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Whether the outline passes through the box of ``reach`` voxels to each side of voxels.

    The outline is the 0.5 level of the trilinear interpolation, whose extremes over a box lie at
    its corners and at grid points inside: the answer is exact.
    """
    steps = [sorted({-r, r, *range(-int(r), int(r) + 1)}) for r in reach]
    points = voxels[:, None] + np.array(list(product(*steps)))
    values = map_coordinates(mask.astype(np.float64), points.reshape(-1, 3).T, order=1)
    values = values.reshape(points.shape[:2])
    inside = mask[tuple(voxels.T)][:, None]
    return np.where(inside, values <= 0.5 + TOLERANCE, values >= 0.5 - TOLERANCE).any(axis=1)


spacings = st.tuples(*[st.floats(0.4, 1.5)] * 3)


@settings(max_examples=150, deadline=None)
@given(
    spacing=spacings,
    common=st.one_of(st.just((0.6, 0.6, 1.0)), spacings),
    radii=st.tuples(*[st.floats(1.5, 8)] * 3) | st.floats(1.5, 8).map(lambda r: (r, r, r)),
    tilt=st.tuples(*[st.floats(-90, 90)] * 3),
    place=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    order=st.sampled_from(ORDERS),
    flips=st.sampled_from(FLIPS),
    degrees=st.tuples(*[st.floats(-20, 20)] * 3),
    soft=st.booleans(),
)
def test_there_and_back_moves_no_outline_by_more_than_half_a_voxel(
    spacing: tuple[float, ...],
    common: tuple[float, float, float],
    radii: tuple[float, ...],
    tilt: tuple[float, ...],
    place: tuple[float, ...],
    order: tuple[int, ...],
    flips: tuple[int, ...],
    degrees: tuple[float, ...],
    soft: bool,
) -> None:
    """What `to_native` promises. Radii and distances are in the larger voxel of the two grids."""
    voxel = np.maximum(spacing, common) / spacing
    half = np.ceil((max(radii) + 2) * voxel)
    axes = [(np.arange(2 * h + 1) - h - p) / v for h, p, v in zip(half, place, voxel, strict=True)]
    turn = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
    turned = np.tensordot(turn, np.stack(np.meshgrid(*axes, indexing="ij")), axes=1)
    mask = sum((x / r) ** 2 for x, r in zip(turned, radii, strict=True)) < 1

    scan, affine = stored(mask.astype(np.uint8), spacing, order, flips, degrees)
    crop = tuple(int(n * s / c) + 2 for n, s, c in zip(mask.shape, spacing, common, strict=True))
    options = Preprocess(spacing_mm=common, crop=crop[:2])
    _, labels, moved = to_common(scan.astype(np.float32), scan, affine, options)
    assert labels is not None
    share = (labels == 1).astype(np.float32)
    if soft:  # what a segmenter would give that is as unsure as interpolation is
        share = resample(scan, affine, Grid(labels.shape, moved))
    back = to_native(np.stack([1 - share, share]), moved, Grid(scan.shape, affine))
    returned = upright(back, order, flips) == 1

    changed = np.argwhere(returned != mask)
    assert outline_is_near(mask, changed, voxel / 2).all()
    if min(radii) >= 3:
        assert outline_is_near(returned, changed, voxel).all()


def test_there_and_back_takes_less_than_a_voxel_off_a_sharp_corner() -> None:
    box = np.zeros((30, 30, 30), np.uint8)
    box[:15, :15, :15] = 1
    options = Preprocess(spacing_mm=(1, 1, 1))
    _, labels, common = to_common(box.astype(np.float32), box, np.diag([0.1, 0.1, 0.1, 1]), options)
    assert labels is not None
    probabilities = np.stack([labels == 0, labels == 1]).astype(np.float32)
    back = to_native(probabilities, common, Grid(box.shape, np.diag([0.1, 0.1, 0.1, 1])))
    changed = np.argwhere(back != box)
    changed = changed[np.ptp(changed, axis=1) == 0]  # on the diagonal, where most is lost
    assert not outline_is_near(box, changed, np.full(3, 5.0)).all()
    assert outline_is_near(box, changed, np.full(3, 8.0)).all()


def test_a_structure_at_the_edge_of_the_crop_comes_back_whole() -> None:
    native = Grid((50, 50, 12), np.diag([0.4, 0.4, 1.0, 1.0]))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (5.3, 5.3, 0)
    everywhere = np.stack([np.zeros((8, 8, 12)), np.ones((8, 8, 12))]).astype(np.float32)
    back = to_native(everywhere, affine, native)
    assert volume_mm3(back, native.affine) == pytest.approx(8 * 8 * 12, rel=0.02)
    nothing = np.stack([np.ones((8, 8, 12)), np.zeros((8, 8, 12))]).astype(np.float32)
    assert not to_native(nothing, affine, native).any()


def test_the_crop_follows_the_head() -> None:
    data = np.zeros((50, 50, 10), np.float32)
    data[30:40, 5:15] = 1
    np.testing.assert_allclose(bright_center(data), (34.5, 9.5, 4.5))
    np.testing.assert_allclose(head_middle(data), (34.5, 9.5, 4.5), atol=0.6)
    options = Preprocess(spacing_mm=(1, 1, 1), crop=(20, 20))
    cropped, _, affine = to_common(data, None, np.eye(4), options)
    assert cropped[5:15, 5:15].min() == 1
    np.testing.assert_allclose(affine[:3, 3], (25, 0, 0))


def test_the_middle_of_the_head_does_not_depend_on_what_is_bright_in_it() -> None:
    data = np.zeros((60, 60, 10), np.float32)
    data[10:50, 14:50] = 0.4
    one, other = data.copy(), data.copy()
    one[12:20, 16:24], other[40:48, 40:48] = 1, 1
    np.testing.assert_allclose(head_middle(one), head_middle(other), atol=0.6)
    assert np.abs(bright_center(one) - bright_center(other)).max() > 1


def test_an_empty_image_is_cropped_in_the_middle() -> None:
    options = Preprocess(spacing_mm=(1, 1, 1), crop=(4, 4))
    data, _, affine = to_common(np.zeros((10, 10, 3), np.float32), None, np.eye(4), options)
    assert data.shape == (4, 4, 3)
    np.testing.assert_allclose(affine[:3, 3], (3, 3, 0))


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_resampling_keeps_a_linear_ramp(factor: float) -> None:
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], (20, 6, 6))
    affine = np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] = (3, 1, 1)
    found = resample(ramp, np.eye(4), Grid((4, 3, 3), affine))
    np.testing.assert_allclose(found[:, 1, 1], 3 + factor * np.arange(4), atol=1e-5)


def test_a_grid_beside_the_volume_sees_only_what_is_outside() -> None:
    affine = np.eye(4)
    affine[0, 3] = 50
    beside = Grid((3, 3, 3), affine)
    assert np.all(resample(np.ones((4, 4, 4), np.float32), np.eye(4), beside, outside=-7) == -7)
    assert not resample_labels(np.ones((4, 4, 4), np.uint8), np.eye(4), beside).any()


def test_labels_never_mix_into_new_values() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5], labels[5:] = 1, 3
    affine = np.diag([0.7, 0.7, 0.7, 1.0])
    found = resample_labels(labels, np.eye(4), Grid((12, 12, 12), affine))
    assert set(np.unique(found)) == {1, 3}


@pytest.mark.parametrize(("labels", "winner"), [((0, 1), 0), ((1, 0), 0), ((3, 1), 1)])
@pytest.mark.parametrize("n", range(3, 40, 2))
def test_ties_go_to_the_smallest_label(n: int, labels: tuple[int, int], winner: int) -> None:
    """A corner voxel has half the share where n / (n + 1) of it meets (n + 1) / 2n."""
    given = np.full((2, 2, 1), labels[0], np.uint8)
    given[1, 1] = labels[1]
    affine = np.eye(4)
    affine[:2, 3] = n / (n + 1), (n + 1) / (2 * n)
    found = resample_labels(given, np.eye(4), Grid((1, 1, 1), affine))
    assert found.item() == winner


def test_numbers_near_the_smallest_double_do_no_harm() -> None:
    data = np.random.default_rng(0).random((6, 6, 6), dtype=np.float32)
    clean = np.diag([1.0, 1.25, 1.0, 1.0])
    turned = clean.copy()
    turned[0, 1], turned[1, 0] = -4.9e-310, 3.9e-310
    grid = Grid((9, 9, 5), np.diag([0.6, 0.6, 1.0, 1.0]))
    np.testing.assert_array_equal(resample(data, turned, grid), resample(data, clean, grid))


def test_a_scan_whose_common_grid_explodes_is_refused() -> None:
    data, fine = np.zeros((50, 50, 50), np.float32), Preprocess(spacing_mm=(1, 1, 1))
    huge = np.diag([99.0, 99.0, 99.0, 1.0])
    with pytest.raises(DataError, match="pixdim: voxels of 99 x 99 x 99 mm give 4950 x 4950 x"):
        to_common(data, None, huge, fine)
    tiny = Preprocess(spacing_mm=(0.001, 0.001, 0.001))
    with pytest.raises(DataError, match=r"give 50000 x 50000 x 50000 of 0\.001 x"):
        to_common(data, None, np.eye(4), tiny)


def test_what_the_common_grid_may_hold_counts_after_the_crop() -> None:
    grid = Grid((50, 60, 4), np.diag([99.0, 99.0, 1.0, 1.0]))
    cropped = Preprocess(spacing_mm=(1, 1, 1), crop=(64, 32))
    require_moderate(grid, cropped, 64 * 32 * 4)
    with pytest.raises(DataError, match="allowed: 8191 voxels"):
        require_moderate(grid, cropped, 64 * 32 * 4 - 1)
    turned = Grid((4, 50, 60), grid.affine[:, [2, 0, 1, 3]])  # the same scan, stored otherwise
    require_moderate(turned, cropped, 64 * 32 * 4)
