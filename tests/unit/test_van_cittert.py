"""Van Cittert deconvolution: it undoes a blur, in millimeters, and leaves geometry alone."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from crossmod_van_cittert import VanCittert, VanCittertOptions
from crossmod_van_cittert.deconvolve import blur, blur_matrix, deconvolve, driven_to_ends
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter, zoom

from crossmod import Context, Volume
from crossmod.phantom import write_cohort

SIGMA = np.array([0.7, 1.1, 1.6])
CONTEXT = Context(Path("unused"))
PAPER_SPACING_MM = np.array([0.6, 0.6, 1.0])
UNIT = 2.0**-24
"""The largest relative error of one rounding to float32."""


def rounding(shape, iterations=1):
    """How far an image in [0, 1] may be off after so many blurs, on any processor.

    A blur sums one product per voxel of each axis, with weights whose sum is 1: at most one
    rounding each, whatever the order. Iterations add such errors and amplify none, since 1 - H
    lies in [0, 1]. Two roundings more are the correction's own.
    """
    return iterations * (sum(shape) + 2) * UNIT


def scene(shape=(24, 20, 18)):
    """Smooth blobs in [0, 1]."""
    noise = gaussian_filter(np.random.default_rng(4).normal(size=shape), 1.2)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def sharpened(data, spacing_mm=(1.0, 1.0, 1.0), **options):
    volume = Volume.of(data[None], np.diag([*spacing_mm, 1.0]), case="a", center="ldn")
    (result,) = VanCittert(VanCittertOptions(**options)).translate([volume], {}, CONTEXT)
    return result


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Slabs of a T2 scan of each scanner of the embedded cohort, on the paper's grid, in [0, 1]."""
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, source=0, target=2, validation=0, seed=2022, workers=1)
    found = []
    for path in sorted(folder.rglob("*_hrT2.nii.gz")):
        scan = nibabel.load(path)
        slab = scan.get_fdata(dtype=np.float32)[:, :, 10:22]
        factors = np.array(scan.header.get_zooms()) / PAPER_SPACING_MM
        fine = zoom(slab, factors, order=1, mode="nearest", grid_mode=True)
        found.append(((fine - fine.min()) / np.ptp(fine))[90:230, 100:240])
    return found


def root_mean_square(error):
    return float(np.sqrt(np.mean(np.square(error))))


def test_blur_matrices_are_a_gaussian_filter():
    image = scene()
    matrices = [blur_matrix(n, s) for n, s in zip(image.shape, SIGMA, strict=True)]
    assert blur(image, matrices) == pytest.approx(
        gaussian_filter(image, SIGMA), abs=rounding(image.shape)
    )


def test_undoes_a_blur():
    sharp = scene()
    blurred = gaussian_filter(sharp, SIGMA)
    errors = [root_mean_square(blurred - sharp)]
    for iterations in (1, 5, 15, 60):
        result = sharpened(
            blurred, psf_mm=tuple(SIGMA), psf_is="sigma", iterations=iterations
        ).data[0]
        errors.append(root_mean_square(result - sharp))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.5 * errors[0]


def test_one_iteration_is_the_formula():
    blurred = scene()
    result = deconvolve(blurred, SIGMA, iterations=1, relaxation=0.5, nonnegative=False)
    expected = blurred + 0.5 * (blurred - gaussian_filter(blurred, SIGMA))
    assert result == pytest.approx(expected, abs=rounding(blurred.shape))


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
    assert coarse.data == pytest.approx(fine.data, abs=2 * rounding(image.shape, iterations=15))


def test_width_follows_the_axis():
    image = scene()
    result = sharpened(image, psf_mm=(0.6, 1.0, 2.0)).data[0]
    turned = sharpened(image.transpose(2, 0, 1), psf_mm=(2.0, 0.6, 1.0)).data[0]
    close = 2 * rounding(image.shape, iterations=15)
    assert result.transpose(2, 0, 1) == pytest.approx(turned, abs=close)


def test_width_at_half_maximum_is_that_of_the_blur():
    spike = np.zeros((81, 1, 1), dtype=np.float32)
    spike[40] = 1
    sigma_mm = VanCittert(VanCittertOptions(psf_mm=(20.0, 1.0, 1.0)))._sigma_mm
    blurred = blur(spike, [blur_matrix(81, sigma_mm[0]), *[np.eye(1, dtype=np.float32)] * 2])
    assert blurred[50, 0, 0] / blurred[40, 0, 0] == pytest.approx(0.5, rel=8 * UNIT)


def test_default_is_the_width_at_half_maximum():
    image = scene()
    wide = sharpened(image, psf_mm=(1.0, 1.0, 2.5))
    sigma = tuple((np.array([1.0, 1.0, 2.5]) / np.sqrt(8 * np.log(2))).tolist())
    same = sharpened(image, psf_mm=sigma, psf_is="sigma")
    other = sharpened(image, psf_mm=(1.0, 1.0, 2.5), psf_is="sigma")
    close = 2 * rounding(image.shape, iterations=15)
    assert wide.data == pytest.approx(same.data, abs=close)
    assert np.abs(wide.data - other.data).max() > 0.1


def test_the_paper_width_leaves_a_head_its_grays(scans):
    """As a standard deviation, the same numbers turn a third of this crop black or white."""
    quiet, noisy = scans
    shares = {}
    for psf_is in ("fwhm", "sigma"):
        for name, scan in (("quiet", quiet), ("noisy", noisy)):
            sharp = sharpened(scan, spacing_mm=tuple(PAPER_SPACING_MM), psf_is=psf_is).data[0]
            shares[psf_is, name] = driven_to_ends(scan, sharp)
    assert 0.015 < shares["fwhm", "quiet"] < 0.025
    assert 0.07 < shares["fwhm", "noisy"] < 0.11
    assert 0.28 < shares["sigma", "quiet"] < 0.34
    assert 0.33 < shares["sigma", "noisy"] < 0.41


def test_what_was_at_the_ends_before_does_not_count():
    before = np.array([0.0, 0.01, 0.5, 0.5, 0.5, 1.0], dtype=np.float32)
    after = np.array([0.0, 0.00, 0.0, 0.7, 1.0, 1.0], dtype=np.float32)
    # Air (the first two) is not part of the head; the last was white before.
    assert driven_to_ends(before, after) == 2 / 4
    assert driven_to_ends(np.zeros(3, np.float32), np.zeros(3, np.float32)) == 0


def test_strong_sharpening_is_a_warning_that_says_what_to_do(scans):
    said, rows = [], []
    context = Context(Path("unused"), log=said.append, metric=lambda **row: rows.append(row))
    affine = np.diag([*PAPER_SPACING_MM, 1.0])
    volumes = [
        Volume.of(scan[None, 30:94, 30:94], affine, case=case)
        for scan, case in ((scans[0], "quiet"), (np.full_like(scans[0], 0.5), "flat"))
    ]
    for psf_is, advice in (("sigma", 'iterations, or psf_is = "fwhm"'), ("fwhm", "")):
        said.clear()
        rows.clear()
        options = VanCittertOptions(psf_is=psf_is, iterations=15 if advice else 1)
        list(VanCittert(options).translate(volumes, {}, context))
        assert [row["case"] for row in rows] == ["quiet", "flat"]
        assert rows[0]["driven_to_ends"] > rows[1]["driven_to_ends"] == 0
        assert "over 2 cases, at most" in said[0]
        assert len(said) == (2 if advice else 1)
        if advice:
            assert said[1].startswith("warning: sharpening drove more than 2% of the head's voxels")
            assert "in 1 of 2 cases" in said[1]
            assert said[1].endswith(advice)


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
    # The weights of a blur, rounded, may miss a sum of 1 by as much as a blur may be off.
    assert result.data[0] == pytest.approx(image, abs=2 * rounding(shape, iterations=15))
    assert result.grid == shape
    assert (result.case, result.center) == ("a", "ldn")
    assert result.spacing_mm == pytest.approx(spacing_mm)
    assert result.data.dtype == np.float32
