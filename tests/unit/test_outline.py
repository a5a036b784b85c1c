"""Where heads and bodies are found: the same place whatever units a scan has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmod.data.grids import Preprocess, common_grid, to_common
from crossmod.data.outline import body_middle, center_of, head_middle

SHAPE = (64, 56, 10)
AIR, FAT, ORGAN, BONE = range(4)
HU = np.array([-1000, -100, 50, 900], np.float32)
MR = np.array([0, 700, 250, 30], np.float32)
SEED = np.random.default_rng(7)
GRAIN = SEED.standard_normal(SHAPE).astype(np.float32)


def ball(middle: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """An elliptic cylinder along K."""
    at = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    return sum(((x - m) / r) ** 2 for x, m, r in zip(at, middle, radii, strict=False)) < 1


def patient(middle: tuple[float, float] = (26.0, 31.0)) -> np.ndarray:
    """Tissues: fat around an organ with a spine, off the middle of the field of view."""
    tissue = np.where(ball(middle, (20, 15)), FAT, AIR)
    tissue[ball(middle, (17, 12))] = ORGAN
    tissue[ball((middle[0], middle[1] - 7), (3, 3))] = BONE
    return tissue


def scan(values: np.ndarray, noise: float, tissue: np.ndarray | None = None) -> np.ndarray:
    tissue = patient() if tissue is None else tissue
    return (values[tissue] + noise * GRAIN).astype(np.float32)


CT = scan(HU, 12.0)
MAGNITUDE = np.abs(scan(MR, 12.0))


@pytest.mark.parametrize("center", ["head", "body"])
@pytest.mark.parametrize("image", [CT, MAGNITUDE], ids=["CT", "MR"])
def test_the_middle_is_that_of_the_anatomy(image: np.ndarray, center: str) -> None:
    np.testing.assert_allclose(center_of(image, center)[:2], (26, 31), atol=1)


@pytest.mark.parametrize("center", ["head", "body"])
def test_ct_and_mr_of_the_same_anatomy_are_cropped_alike(center: str) -> None:
    options = Preprocess(spacing_mm=(1.5, 1.5, 3.0), crop=(32, 24), center=center)
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    grids = [common_grid(image, affine, options) for image in (CT, MAGNITUDE)]
    assert grids[0].shape == grids[1].shape
    np.testing.assert_allclose(grids[0].affine, grids[1].affine, atol=1.51)  # a voxel at most


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-40_000, 40_000),
    doublings=st.integers(-6, 6),
    find=st.sampled_from([head_middle, body_middle]),
    image=st.sampled_from([np.round(CT), np.round(MAGNITUDE)]),
)
def test_offset_and_scale_change_nothing(offset, doublings, find, image) -> None:
    """Whole numbers and powers of two: sums and products are exact in single precision."""
    np.testing.assert_array_equal(find((image + offset) * 2.0**doublings), find(image))


@settings(max_examples=30, deadline=None)
@given(offset=st.floats(-1e4, 1e4), factor=st.floats(1e-3, 1e3))
def test_any_offset_and_scale_move_it_by_rounding_alone(offset: float, factor: float) -> None:
    """Rounding may move single voxels across the level, which moves a quantile by one voxel."""
    moved = ((CT + offset) * factor).astype(np.float32)
    np.testing.assert_allclose(head_middle(moved), head_middle(CT), atol=0.5)


def test_where_air_is_zero_the_level_is_a_share_of_the_bright_percentile() -> None:
    image = np.maximum(np.round(scan(MR, 12.0)), 0)
    head = image > 0.15 * np.percentile(image, 99)
    shares = [np.cumsum(head.sum(axis=tuple({0, 1, 2} - {axis}))) / head.sum() for axis in range(3)]
    expected = [np.searchsorted(share, (0.02, 0.98)).mean() for share in shares]
    np.testing.assert_array_equal(head_middle(image), expected)


@pytest.mark.parametrize("padding", [-1024, -2000, -3024, -32768])
@pytest.mark.parametrize("find", [head_middle, body_middle])
def test_the_padding_of_a_ct_scan_is_not_taken_for_air(find, padding: int) -> None:
    image = np.where(ball((31.5, 27.5), (32.5, 28.5)), CT, padding).astype(np.float32)
    np.testing.assert_allclose(find(image)[:2], find(CT)[:2], atol=1)


@pytest.mark.parametrize("find", [head_middle, body_middle])
def test_a_single_dark_voxel_is_not_taken_for_air(find) -> None:
    image = MAGNITUDE.copy()
    image[0, 0, 0] = -32768
    np.testing.assert_allclose(find(image)[:2], (26, 31), atol=1)


def test_the_table_does_not_move_the_middle_of_a_body() -> None:
    tissue = patient()
    tissue[6:58, 4:9] = ORGAN
    image = scan(HU, 12.0, tissue)
    np.testing.assert_allclose(body_middle(image)[:2], (26, 31), atol=1)
    assert abs(head_middle(image)[1] - 31) > 3


def test_a_window_maps_the_same_units_to_the_same_grays() -> None:
    options = Preprocess(spacing_mm=(1, 1, 1), window=(-160.0, 240.0))
    image, _, _ = to_common(scan(HU, 0.0), None, np.eye(4), options)
    shares = np.array([0, 60 / 400, 210 / 400, 1])
    np.testing.assert_allclose(image, shares[patient()], atol=1e-6)
    metal = scan(HU, 0.0)
    metal[0, 0, 0] = 3000
    again, _, _ = to_common(metal, None, np.eye(4), options)
    assert (again != image).sum() == 1, "metal in one voxel changes no other"


def test_a_window_needs_room_and_stands_alone() -> None:
    with pytest.raises(ValueError, match="upper intensity"):
        Preprocess(spacing_mm=(1, 1, 1), window=(240.0, -160.0))
    with pytest.raises(ValueError, match="window replaces clip_fractions"):
        Preprocess(spacing_mm=(1, 1, 1), window=(0.0, 1.0), clip_fractions=(0.0, 0.9))
