from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crossmod.preprocess import (
    Grid,
    Preprocess,
    bright_center,
    head_middle,
    resample,
    resample_labels,
    to_common,
    to_native,
)

ORDERS = [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)]


def scan(
    order: tuple[int, ...], flips: tuple[int, ...], degrees: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head-like image with a labeled ball, stored in some axis order, flipped and oblique."""
    shape, spacing = np.array([40, 44, 24]), np.array([1.0, 0.9, 1.5])
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    mm = [(axis - n / 2) * s for axis, n, s in zip(axes, shape, spacing, strict=True)]
    image = np.exp(-sum(x**2 for x in mm) / 200).astype(np.float32)
    ball = (sum((x - c) ** 2 for x, c in zip(mm, (4, -3, 2), strict=True)) < 36).astype(np.uint8)
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [degrees, degrees / 2, -degrees], degrees=True)
    affine[:3, :3] = rotation.as_matrix() @ np.diag(spacing)
    affine[:3, 3] = (7, -5, 11)
    image, ball = np.transpose(image, order), np.transpose(ball, order)
    affine[:, :3] = affine[:, list(order)]
    for axis in range(3):
        if flips[axis]:
            image, ball = np.flip(image, axis), np.flip(ball, axis)
            affine[:3, 3] += affine[:3, axis] * (image.shape[axis] - 1)
            affine[:3, axis] *= -1
    return np.ascontiguousarray(image), np.ascontiguousarray(ball), affine


def center_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(ORDERS),
    st.tuples(*[st.integers(0, 1)] * 3),
    st.floats(-20, 20),
    st.floats(0.7, 2.0),
)
def test_there_and_back_keeps_a_structure_in_place(
    order: tuple[int, ...], flips: tuple[int, ...], degrees: float, spacing: float
) -> None:
    image, ball, affine = scan(order, flips, degrees)
    options = Preprocess(spacing_mm=(spacing, spacing, 1.5), crop=(64, 64))
    data, labels, common = to_common(image, ball, affine, options)
    assert labels is not None
    assert data.shape == labels.shape
    assert data.shape[:2] == (64, 64)
    assert (data.min(), data.max()) == (0, 1)
    assert np.linalg.norm(center_mm(labels == 1, common) - center_mm(ball == 1, affine)) < 0.5

    channels = np.stack([labels == 0, labels == 1]).astype(np.float32)
    back = to_native(channels, common, Grid(image.shape, affine))
    overlap = 2 * np.sum((back == 1) & (ball == 1)) / (np.sum(back) + np.sum(ball))
    assert overlap > 0.88


def test_results_do_not_depend_on_how_the_scan_was_stored() -> None:
    options = Preprocess(spacing_mm=(1.0, 1.0, 1.0), crop=(48, 48))
    expected, labels, affine = to_common(*scan((0, 1, 2), (0, 0, 0), 5), options)  # type: ignore[arg-type]
    for order in ORDERS:
        for flips in [(1, 0, 0), (0, 1, 1), (1, 1, 1)]:
            found, found_labels, found_affine = to_common(*scan(order, flips, 5), options)  # type: ignore[arg-type]
            np.testing.assert_allclose(found_affine, affine, atol=1e-5)
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert np.mean(found_labels != labels) < 1e-4


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


def test_labels_never_mix_into_new_values() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5], labels[5:] = 1, 3
    affine = np.diag([0.7, 0.7, 0.7, 1.0])
    found = resample_labels(labels, np.eye(4), Grid((12, 12, 12), affine))
    assert set(np.unique(found)) == {1, 3}
