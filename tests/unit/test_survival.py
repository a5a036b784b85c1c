"""Figures of structures before and after translation, and shifts between images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from crossmod import Volume
from crossmod.scores.shift import on_grid, shift_mm
from crossmod.scores.survival import look

SHAPE = (40, 36, 24)


def head(seed=0, shift=(0, 0, 0)):
    """Smooth blobs, moved by ``shift`` voxels; nothing wraps around."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(tuple(n + 16 for n in SHAPE))
    smooth = ndimage.gaussian_filter(noise, 2.5)
    moved = ndimage.shift(smooth, shift, order=3, mode="nearest")
    inner = moved[8:-8, 8:-8, 8:-8]
    return (inner - smooth.min()) / np.ptp(smooth)


def volume(data, affine=None):
    return Volume.of(
        np.asarray(data, np.float32)[None], np.eye(4) if affine is None else affine, case="a"
    )


@settings(max_examples=15, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 1000),
    invert=st.booleans(),
)
def test_a_shift_is_found_to_a_fraction_of_a_voxel(shift, seed, invert):
    """Also where bright and dark are exchanged, as between T1 and T2."""
    first, second = head(seed), head(seed, shift)
    found = shift_mm(volume(first), volume(1 - second if invert else second))
    np.testing.assert_allclose(found, shift, atol=0.35)


def test_a_shift_is_in_mm_along_right_front_and_up():
    """Voxel axes may run along others, and backwards."""
    affine = np.array([[0, -1.5, 0, 9], [2.0, 0, 0, 5], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    found = shift_mm(volume(head(), affine), volume(head(shift=(1, 2, 0)), affine))
    np.testing.assert_allclose(found, [-3.0, 2.0, 0.0], atol=0.6)


def test_an_image_lies_where_it_lies():
    np.testing.assert_allclose(shift_mm(volume(head()), volume(head())), 0, atol=1e-6)


def test_without_edges_no_shift_is_known():
    assert np.isnan(shift_mm(volume(head()), volume(np.zeros(SHAPE)))).all()


def ball(radius=5.0, inside=0.8, outside=0.3):
    places = np.indices(SHAPE).transpose(1, 2, 3, 0) - np.array(SHAPE) // 2
    labels = (np.linalg.norm(places, axis=-1) <= radius).astype(np.uint8)
    return np.where(labels == 1, inside, outside), labels


def test_the_look_of_a_ball_is_what_it_was_made_of():
    image, labels = ball()
    found = look(volume(image), labels, 1)
    assert found.mean == pytest.approx(0.8, abs=1e-6)
    assert found.contrast == pytest.approx(0.5, abs=1e-6)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert 0.2 < found.sharpness < 0.5  # central differences halve a step of 0.5


def test_a_blurred_edge_is_less_sharp_and_texture_spreads():
    image, labels = ball()
    blurred = look(volume(ndimage.gaussian_filter(image, 1.5)), labels, 1)
    noise = np.random.default_rng(1).standard_normal(SHAPE) * 0.1
    textured = look(volume(image + noise), labels, 1)
    sharp = look(volume(image), labels, 1)
    assert blurred.sharpness < 0.7 * sharp.sharpness
    assert textured.spread == pytest.approx(0.1, rel=0.2)


def test_sharpness_is_per_mm():
    image, labels = ball()
    fine, coarse = (look(volume(image, np.diag([s, s, s, 1.0])), labels, 1) for s in (1.0, 2.0))
    assert coarse.sharpness == pytest.approx(fine.sharpness / 2)


def test_other_structures_are_no_part_of_the_rim():
    image, labels = ball()
    grown = ndimage.binary_dilation(labels == 1, iterations=2) & (labels == 0)
    labels[grown] = 2
    image[grown] = 1.0
    assert look(volume(image), labels, 1).contrast == pytest.approx(0.5, abs=1e-6)


def test_a_structure_that_is_not_there_has_no_look():
    image, labels = ball()
    assert look(volume(image), labels, 2) is None


def test_a_structure_of_one_voxel_at_the_corner_can_be_measured():
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = 1
    assert np.isfinite(look(volume(head()), labels, 1).sharpness)


def test_a_scan_is_laid_on_another_grid_by_its_middle():
    data = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    scan = Volume.of(data, np.eye(4), case="a")
    found = on_grid(scan, (2, 1, 6)).data
    assert found.shape == (1, 2, 1, 6)
    assert found[0, 0, 0].tolist() == [4, 4, 5, 6, 7, 7]
