"""Augmentation of the 3D U-Net: drawn as nnU-Net draws, and what it does to a patch.

The laws are those of nnU-Net 2.8 with batchgeneratorsv2 0.3; parameters are read off what a
change makes of a small probe. Draws of numpy are the same everywhere, so nothing here is flaky.
"""

import numpy as np
import pytest
import torch
from crossmod_unet3d import Augmentation
from crossmod_unet3d.augment import changes, draw_factor, recolor
from crossmod_unet3d.motion import Motion, draw_motion, move
from crossmod_unet3d.sampling import Loaded, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polygrid3d
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

DRAWS = 2000
PLAIN = dict.fromkeys(Augmentation.model_fields, 0.0)
CUBIC_MM = (1.0, 1.0, 1.0)


def changed(name, image, rng, thick=None):
    """What a change makes of a numpy image."""
    return changes(thick)[name](torch.from_numpy(image), rng).numpy()


def moved_by(motion, image, labels, center, patch, spacing_mm=CUBIC_MM):
    """A patch of numpy volumes, moved."""
    found = move(Loaded.of(image, labels), center, patch, spacing_mm, motion, "cpu")
    return tuple(part.numpy() for part in found)


def cut_from(volume, center, patch):
    return cut(torch.from_numpy(volume), center, patch).numpy()


def uniform(low, high):
    """The share of a uniform law below a value."""
    return lambda values: np.clip((values - low) / (high - low), 0, 1)


def half_and_half(low, high):
    """The share below a value, if half lies uniformly below 1 and half above."""
    return lambda values: uniform(low, 1)(values) / 2 + uniform(1, high)(values) / 2


def follows(values, law):
    """Whether a sample is of a law, by Kolmogorov and Smirnov's distance at 0.1 %."""
    ordered = np.sort(np.asarray(values, dtype=float))
    below = np.arange(len(ordered) + 1) / len(ordered)
    shares = law(ordered)
    distance = max((below[1:] - shares).max(), (shares - below[:-1]).max())
    return distance < 1.95 / np.sqrt(len(ordered))


def line(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def impulse():
    image = np.zeros((9, 9, 9), np.float32)
    image[4, 4, 4] = 1
    return image


def width(blurred, axis):
    """The standard deviation of a Gaussian from its two middle taps."""
    beside = [4, 4, 4]
    beside[axis] = 5
    return np.sqrt(-0.5 / np.log(blurred[tuple(beside)] / blurred[4, 4, 4]))


# change -> (probe, parameter from what becomes of it, law)
LAWS = {
    "noise": (np.zeros((16, 16, 16), np.float32), np.std, uniform(0, 0.1)),
    "blur": (impulse(), lambda out: width(out, 0), uniform(0.5, 1)),
    "brightness": (line(1), np.mean, half_and_half(0.75, 1.25)),
    "contrast": (line(-9, -1, 1, 9), lambda out: (out[2] - out[1]).item() / 2,
                 half_and_half(0.75, 1.25)),
    "gamma": (line(0, 0.5, 1), lambda out: -np.log2((out[1] - out[0]) / (out[2] - out[0])).item(),
              half_and_half(0.7, 1.5)),
    "inverted_gamma": (
        line(0, 0.5, 1),
        lambda out: -np.log2((out[1] - out[2]) / (out[0] - out[2])).item(),
        half_and_half(0.7, 1.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_parameters_are_drawn_from_the_laws_of_nnu_net(name):
    probe, parameter, law = LAWS[name]
    rng = np.random.default_rng(0)
    drawn = [parameter(changed(name, probe, rng)) for _ in range(DRAWS)]
    assert follows(drawn, law)
    assert not follows(drawn, lambda values: law(values * 1.1))


def test_half_of_the_gammas_are_below_one():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_factor((0.7, 1.5), rng) for _ in range(20_000)])
    assert follows(drawn, half_and_half(0.7, 1.5))
    assert not follows(drawn, uniform(0.7, 1.5))
    assert abs((drawn < 1).mean() - 0.5) < 0.01


def test_blur_differs_from_axis_to_axis():
    rng = np.random.default_rng(0)
    blurred = [changed("blur", impulse(), rng) for _ in range(DRAWS)]
    widths = np.array([[width(image, axis) for axis in range(3)] for image in blurred])
    assert all(follows(widths[:, axis], uniform(0.5, 1)) for axis in range(3))
    assert np.abs(np.corrcoef(widths.T) - np.eye(3)).max() < 0.1


@pytest.mark.parametrize("shape", [(9, 8, 7), (2, 1, 5), (30, 3, 4)])
def test_blur_is_a_gaussian_that_mirrors_the_edges(shape):
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    for seed in range(9):
        widths = np.random.default_rng(seed).uniform(0.5, 1, 3)
        radii = [int(3 * width + 0.25) for width in widths]
        expected = gaussian_filter(image, widths, mode="mirror", radius=radii)
        found = changed("blur", image, np.random.default_rng(seed))
        # Along each of 3 axes 7 sums and products of values below 4: 42 roundings of 6e-8.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("thick", [None, 0, 1, 2])
def test_resolution_is_drawn_once_for_all_axes_but_the_thick_one(monkeypatch, thick):
    shape, sizes = [40, 50, 60], []
    resize = torch.nn.functional.interpolate
    monkeypatch.setattr(
        torch.nn.functional,
        "interpolate",
        lambda image, size, **how: sizes.append((size, how["mode"])) or resize(image, size, **how),
    )
    rng, image = np.random.default_rng(0), np.ones(shape, np.float32)
    for _ in range(200):
        changed("low_resolution", image, rng, thick)
    assert [mode for _, mode in sizes] == ["nearest-exact", "trilinear"] * 200
    coarse = np.array([size for size, mode in sizes if mode == "nearest-exact"])
    shares = np.delete(coarse / shape, [] if thick is None else thick, axis=1)
    assert follows(shares[:, 0], uniform(0.5, 1))
    assert np.ptp(shares, axis=1).max() < 0.5 / 40 + 0.5 / 50  # each is rounded to whole voxels
    assert thick is None or (coarse[:, thick] == shape[thick]).all()


def test_chances_are_those_of_nnu_net_for_one_channel():
    assert Augmentation(bias_field=0.0).model_dump() == {
        "rotation": 0.2, "scaling": 0.2, "noise": 0.1, "blur": 0.2 * 0.5, "brightness": 0.15,
        "contrast": 0.15, "low_resolution": 0.25 * 0.5, "inverted_gamma": 0.1, "gamma": 0.3,
        "bias_field": 0.0, "class_contrast": 0.0, "random_convolution": 0.0,
    }  # fmt: skip


def test_changes_of_intensity_come_in_the_order_of_nnu_net():
    assert list(changes(None)) == list(Augmentation.model_fields)[2:-2]


@pytest.mark.parametrize("name", changes(None))
def test_changes_of_intensity_keep_shape_and_finiteness(name):
    image = np.random.default_rng(0).standard_normal((9, 8, 7)).astype(np.float32)
    for probe in (image, np.ones((5, 4, 1), np.float32)):
        for seed in range(3):
            before, found = probe.copy(), changed(name, probe, np.random.default_rng(seed))
            assert found.shape == probe.shape
            assert found.dtype == np.float32
            assert np.isfinite(found).all()
            assert probe is not image or not np.array_equal(found, image)
            assert np.array_equal(probe, before)  # it may be a view of a volume


@pytest.mark.parametrize("name", ["gamma", "inverted_gamma"])
def test_gamma_keeps_mean_and_spread(name):
    image = np.random.default_rng(0).standard_normal((16, 16, 16), np.float32) * 3 + 2
    found = changed(name, image, np.random.default_rng(0))
    # 4096 numbers up to 14 in float32, summed pairwise: 12 roundings of 6e-8 at most.
    assert found.mean() == pytest.approx(image.mean(), abs=1e-4)
    assert found.std() == pytest.approx(image.std(), rel=1e-4)


def test_contrast_stays_within_the_old_range():
    image = np.random.default_rng(0).standard_normal((8, 8, 8), np.float32)
    for seed in range(9):
        found = changed("contrast", image, np.random.default_rng(seed))
        assert found.min() >= image.min()
        assert found.max() <= image.max()


def test_a_bias_field_is_a_smooth_factor():
    image = np.ones((12, 10, 8), np.float32)
    image[0, 0, 0] = 0
    field = changed("bias_field", image, np.random.default_rng(0))
    assert field[0, 0, 0] == 0
    logarithm = np.log(field[1:].astype(float))
    assert np.abs(np.diff(logarithm, n=4, axis=0)).max() < 1e-5  # cubic; 16 roundings of 6e-8
    assert np.abs(logarithm).max() < 0.3 * 20  # as many terms, each below 0.3


def test_a_bias_field_is_the_exponential_of_a_cubic_polynomial():
    image = np.random.default_rng(1).random((12, 10, 8), np.float32)
    for seed in range(5):
        weights, places = np.zeros((4, 4, 4)), np.indices((4, 4, 4)).sum(0) <= 3
        weights[places] = np.random.default_rng(seed).uniform(-0.3, 0.3, 20)
        field = np.exp(polygrid3d(*(np.linspace(-1, 1, n) for n in image.shape), weights))
        expected = (image - image.min()) * field + image.min()
        found = changed("bias_field", image, np.random.default_rng(seed))
        # 16 terms below 0.3: 16 roundings of 6e-8 of at most 6, then exp multiplies them.
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_motions_are_drawn_from_the_laws_of_nnu_net():
    rng = np.random.default_rng(0)
    motions = [draw_motion(None, Augmentation(), rng) for _ in range(20_000)]
    moved = [motion for motion in motions if motion]
    turned = np.array([motion.degrees for motion in moved if any(motion.degrees)])
    scales = np.array([motion.scale for motion in moved if motion.scale != 1])
    assert len(moved) / len(motions) == pytest.approx(1 - 0.8**2, abs=0.01)
    assert len(turned) / len(motions) == pytest.approx(0.2, abs=0.01)
    assert len(scales) / len(motions) == pytest.approx(0.2, abs=0.01)
    assert all(follows(turned[:, axis], uniform(-30, 30)) for axis in range(3))
    assert follows(scales, uniform(0.7, 1.4))
    assert draw_motion(None, Augmentation(**PLAIN), rng) is None


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_thin_patches_turn_about_their_thick_axis_only(thick):
    chances, rng = Augmentation(rotation=1.0, scaling=1.0), np.random.default_rng(0)
    motions = [draw_motion(thick, chances, rng) for _ in range(DRAWS)]
    degrees = np.array([motion.degrees for motion in motions])
    assert not np.delete(degrees, thick, axis=1).any()
    assert follows(degrees[:, thick], uniform(-180, 180))
    assert follows([motion.scale for motion in motions], uniform(0.7, 1.4))


def test_axes_are_turned_in_the_order_of_nnu_net():
    motion = Motion((20.0, -10.0, 30.0), 1.3, None)
    about = [
        Rotation.from_euler(axis, angle, degrees=True).as_matrix()
        for axis, angle in zip("xyz", motion.degrees, strict=True)
    ]
    expected = about[0] @ about[1] @ about[2] * 1.3  # its axes 0, 1, 2 are K, J, I
    np.testing.assert_allclose(motion.matrix(CUBIC_MM), expected, atol=1e-12)


def test_angles_are_true_in_mm():
    spacing = np.array([0.6, 0.6, 1.5])
    matrix = Motion((20.0, -10.0, 30.0), 1.3, None).matrix(tuple(spacing))
    in_mm = matrix * spacing[:, None] / spacing / 1.3
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(("scale", "thick"), [(1.4, None), (0.7, None), (1.4, 2), (0.7, 1)])
def test_a_larger_scale_makes_objects_smaller(scale, thick):
    labels = np.zeros((48, 48, 48), np.uint8)
    labels[14:34, 14:34, 14:34] = 1
    image = labels.astype(np.float32)
    motion = Motion((0.0, 0.0, 0.0), scale, thick)
    moved, outlined = moved_by(motion, image, labels, np.full(3, 24), labels.shape)
    for axis in range(3):
        edge = 20 if axis == thick else 20 / scale
        for inside in (moved > 0.5, outlined == 1):
            used = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
            assert abs(len(used) - edge) <= 1


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_planes_of_thin_patches_never_mix(thick):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((20, 18, 16), np.float32)
    labels = rng.integers(0, 3, image.shape).astype(np.uint8)
    other_image, other_labels = image.copy(), labels.copy()
    plane = [slice(None)] * 3
    plane[thick] = 7
    other_image[tuple(plane)] += 1
    other_labels[tuple(plane)] = 2 - labels[tuple(plane)]
    chances = Augmentation(**{**PLAIN, "rotation": 1.0, "scaling": 1.0, "low_resolution": 1.0})

    def augmented(image, labels, seed):
        draw = np.random.default_rng(seed)
        motion, center = draw_motion(thick, chances, draw), np.array(image.shape) // 2
        spacing_mm = (0.5, 0.4, 2.0)
        image, labels = moved_by(motion, image, labels, center, image.shape, spacing_mm)
        return recolor(torch.from_numpy(image), thick, chances, draw).numpy(), labels

    for seed in range(5):
        before, after = augmented(image, labels, seed), augmented(other_image, other_labels, seed)
        for one, other in zip(before, after, strict=True):
            differ = (one != other).any(axis=tuple({0, 1, 2} - {thick}))
            assert np.flatnonzero(differ).tolist() == [7]


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(3, 14)] * 3),
    st.tuples(*[st.integers(1, 16)] * 3),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.sampled_from([None, 0, 1, 2]),
)
def test_a_motion_that_changes_nothing_cuts(shape, patch, place, thick):
    rng = np.random.default_rng(0)
    image = rng.random(shape, np.float32)
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    center = np.array([int(p * (n - 1)) for p, n in zip(place, shape, strict=True)])
    still = Motion((0.0, 0.0, 0.0), 1.0, thick)
    moved, outlined = moved_by(still, image, labels, center, patch, (0.5, 0.4, 2.0))
    # Along each of 3 axes 5 roundings of 6e-8, times half of 14 voxels; neighbors differ by 1.
    np.testing.assert_allclose(moved, cut_from(image, center, patch), atol=2e-5)
    np.testing.assert_array_equal(outlined, cut_from(labels, center, patch))
    assert moved.dtype == np.float32
    assert outlined.dtype == np.uint8


def test_a_quarter_turn_is_a_quarter_turn():
    rng = np.random.default_rng(0)
    image = rng.random((15, 15, 6), np.float32)
    labels = rng.integers(0, 4, image.shape).astype(np.uint8)
    motion = Motion((0.0, 0.0, 90.0), 1.0, 2)
    center = np.array(image.shape) // 2
    moved, outlined = moved_by(motion, image, labels, center, image.shape)
    np.testing.assert_allclose(moved, np.rot90(image, -1), atol=2e-5)  # as above
    np.testing.assert_array_equal(outlined, np.rot90(labels, -1))


@pytest.mark.parametrize("thick", [None, 0, 1, 2])
def test_a_moved_patch_is_looked_up_linearly_label_by_label(thick):
    """Against scipy's affine transform of the whole volume and of every label in it."""
    rng, spacing_mm = np.random.default_rng(0), (0.6, 0.5, 1.5)
    image = rng.standard_normal((26, 24, 18), np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[4:9, 10:14, 3:9], labels[9:12, 9:13, 5:7], labels[20:, 20:, 14:] = 1, 3, 2
    patch, chances = (20, 16, 12), Augmentation(rotation=1.0, scaling=1.0)
    for seed in range(6):
        draw = np.random.default_rng(seed)
        motion, center = draw_motion(thick, chances, draw), draw.integers((26, 24, 18))
        matrix, start = motion.matrix(spacing_mm), center - np.array(patch) // 2
        half = (np.array(patch) - 1) / 2

        def look_up(volume, matrix=matrix, offset=start + half - matrix @ half):
            padded = np.pad(volume.astype(float), 2)  # scipy ends at the middle of a voxel
            return affine_transform(padded, matrix, offset + 2, patch, order=1)

        shares = np.array([look_up(labels == label) for label in (1, 2, 3)])
        shares = np.array([1 - shares.sum(0), *shares])
        moved, outlined = moved_by(motion, image, labels, center, patch, spacing_mm)
        # Places are off by 5 roundings of 6e-8 of at most 26 voxels, along each of 3 axes.
        np.testing.assert_allclose(moved, look_up(image), rtol=0, atol=1e-4)
        *_, second, first = np.sort(shares, axis=0)
        sure = first - second > 1e-4  # else rounding decides between two labels
        assert sure.mean() > 0.99
        np.testing.assert_array_equal(outlined[sure], shares.argmax(0)[sure])


def test_labels_move_with_the_image():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[6:14, 8:12, 4:9] = 2
    motion = Motion((20.0, -10.0, 30.0), 0.8, None)
    center, patch = np.full(3, 10), (20, 20, 20)
    image = labels.astype(np.float32) * 5
    image, moved = moved_by(motion, image, labels, center, patch, (1, 1, 2))
    assert set(np.unique(moved)) == {0, 2}
    assert ((image > 5) == (moved == 2)).mean() > 0.999  # a share of a half may be rounded
    assert (moved > 0).sum() == pytest.approx((labels > 0).sum() / 0.8**3, rel=0.15)


def test_the_label_with_the_largest_share_wins():
    labels = np.ones((12, 12, 12), np.uint8)
    labels[6:] = 3
    halfway = Motion((0.0, 0.0, 0.0), 0.75, None)
    _, moved = moved_by(halfway, labels.astype(np.float32), labels, np.full(3, 6), (8, 8, 8))
    assert (moved[:4] == 1).all()  # a voxel between 1 and 3 never becomes 2, nor background
    assert (moved[4:] == 3).all()


def test_corners_of_a_turned_patch_are_looked_up_in_the_volume():
    chances = Augmentation(rotation=1.0, scaling=1.0)
    volume = np.ones((80, 80, 80), np.float32)
    labels = np.ones(volume.shape, np.uint8)
    for seed in range(5):
        motion = draw_motion(None, chances, np.random.default_rng(seed))
        image, moved = moved_by(motion, volume, labels, np.full(3, 40), (16, 16, 16))
        # Eight weights, each a product of three roundings of 6e-8.
        np.testing.assert_allclose(image, 1, atol=1e-5)
        assert (moved == 1).all()
