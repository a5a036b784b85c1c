"""Van Cittert deconvolution: it undoes a blur, in millimeters, and leaves geometry alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crossmod_van_cittert import VanCittert, VanCittertOptions
from crossmod_van_cittert.deconvolve import blur, blur_matrix, deconvolve
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from crossmod import Context, Volume

SIGMA = np.array([0.7, 1.1, 1.6])
CONTEXT = Context(Path("unused"))


def scene(shape=(24, 20, 18)):
    """Smooth blobs in [0, 1]."""
    noise = gaussian_filter(np.random.default_rng(4).normal(size=shape), 1.2)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def sharpened(data, spacing_mm=(1.0, 1.0, 1.0), **options):
    volume = Volume.of(data[None], np.diag([*spacing_mm, 1.0]), case="a", center="ldn")
    (result,) = VanCittert(VanCittertOptions(**options)).translate([volume], {}, CONTEXT)
    return result


def root_mean_square(error):
    return float(np.sqrt(np.mean(np.square(error))))


def test_blur_matrices_are_a_gaussian_filter():
    image = scene()
    matrices = [blur_matrix(n, s) for n, s in zip(image.shape, SIGMA, strict=True)]
    assert blur(image, matrices) == pytest.approx(gaussian_filter(image, SIGMA), abs=1e-6)


def test_undoes_a_blur():
    sharp = scene()
    blurred = gaussian_filter(sharp, SIGMA)
    errors = [root_mean_square(blurred - sharp)]
    for iterations in (1, 5, 15, 60):
        result = sharpened(blurred, psf_mm=tuple(SIGMA), iterations=iterations).data[0]
        errors.append(root_mean_square(result - sharp))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.5 * errors[0]


def test_one_iteration_is_the_formula():
    blurred = scene()
    result = deconvolve(blurred, SIGMA, iterations=1, relaxation=0.5, nonnegative=False)
    expected = blurred + 0.5 * (blurred - gaussian_filter(blurred, SIGMA))
    assert result == pytest.approx(expected, abs=1e-6)


def test_amplification_is_bounded_by_the_iterations():
    checkerboard = np.indices((16, 16, 16)).sum(axis=0) % 2 - 0.5
    result = deconvolve(
        checkerboard.astype(np.float32),
        np.array([2.0, 2.0, 2.0]),
        iterations=15,
        relaxation=1.0,
        nonnegative=False,
    )
    assert np.abs(result).max() == pytest.approx(0.5 * 16, rel=0.03)


def test_width_is_in_millimeters():
    image = scene()
    coarse = sharpened(image, spacing_mm=(1.0, 1.0, 2.0), psf_mm=(1.0, 1.0, 2.4))
    fine = sharpened(image, spacing_mm=(0.5, 0.5, 1.0), psf_mm=(0.5, 0.5, 1.2))
    assert coarse.data == pytest.approx(fine.data, abs=1e-6)


def test_width_follows_the_axis():
    image = scene()
    result = sharpened(image, psf_mm=(0.6, 1.0, 2.0)).data[0]
    turned = sharpened(image.transpose(2, 0, 1), psf_mm=(2.0, 0.6, 1.0)).data[0]
    assert result.transpose(2, 0, 1) == pytest.approx(turned, abs=1e-5)


def test_nonnegative_acts_within_the_iteration():
    spike = np.zeros((9, 9, 9), dtype=np.float32)
    spike[4, 4, 4] = 1
    settings = {"iterations": 3, "relaxation": 1.0}
    free = deconvolve(spike, SIGMA, nonnegative=False, **settings)
    bounded = deconvolve(spike, SIGMA, nonnegative=True, **settings)
    assert free.min() < 0 <= bounded.min()
    assert not np.allclose(np.maximum(free, 0), bounded)


@pytest.mark.parametrize("relaxation", [0.0, 2.0, -1.0])
def test_a_relaxation_that_diverges_is_refused(relaxation):
    with pytest.raises(ValidationError):
        VanCittertOptions(relaxation=relaxation)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    psf_mm=st.tuples(*[st.floats(0.1, 4.0)] * 3),
    level=st.floats(0, 1, width=32),
)
def test_constant_images_and_geometry_stay(shape, spacing_mm, psf_mm, level):
    image = np.full(shape, level, dtype=np.float32)
    result = sharpened(image, spacing_mm=spacing_mm, psf_mm=psf_mm)
    assert result.data[0] == pytest.approx(image, abs=1e-4)
    assert result.grid == shape
    assert (result.case, result.center) == ("a", "ldn")
    assert result.spacing_mm == pytest.approx(spacing_mm)
    assert result.data.dtype == np.float32
