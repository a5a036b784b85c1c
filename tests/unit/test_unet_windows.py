"""The windows of a prediction, beside MONAI's, and computed side by side."""

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from crossmod_unet3d import UNet3DOptions
from crossmod_unet3d.networks import WEIGHTS, build, learned
from crossmod_unet3d.plan import make_plan
from crossmod_unet3d.predict import Predictor
from crossmod_unet3d.sampling import z_score
from crossmod_unet3d.windows import importance, padded, places
from hypothesis import given
from hypothesis import strategies as st

from crossmod import Context
from crossmod.data.state import save_state
from crossmod.torch import autocast, load_weights

ROUNDED = 2e-6
"""Some ten roundings of float32 in sums of shares and weights of at most 1."""

SIZES = st.tuples(*[st.integers(1, 40)] * 3)
WINDOWS = st.tuples(*[st.integers(1, 24)] * 3)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    options = UNet3DOptions(base_channels=4, max_channels=16, patch=(16, 16, 8))
    plan = make_plan((1.0, 1.0, 2.0), (40, 40, 20), cases=4, classes=2, options=options)
    return learned(build(plan, 2), plan)


def predictor_of(state, mirror=(), overlap=0.5, **changes):
    options = UNet3DOptions(mirror=mirror, mirror_predictions=bool(mirror), overlap=overlap)
    return Predictor.of(state, options, Context(Path("nowhere"), **changes))


def some_image(shape):
    return np.random.default_rng(1).random(shape, np.float32)


@given(SIZES, WINDOWS, st.floats(0, 0.9))
def test_windows_cover_a_volume_and_overlap_as_asked(shape, window, overlap):
    shape = tuple(max(size, edge) for size, edge in zip(shape, window, strict=True))
    seen = np.zeros(shape, int)
    for place in places(shape, window, overlap):
        seen[place] += 1
        assert seen[place].shape == window
    assert seen.min() > 0
    assert places(window, window, overlap) == [tuple(slice(0, edge) for edge in window)]


@given(SIZES, WINDOWS)
def test_small_volumes_get_margins_of_zeros(shape, window):
    volume = torch.ones(shape)
    larger, within = padded(volume, window)
    assert torch.equal(larger[within], volume)
    assert larger.sum() == volume.sum()
    assert all(size >= edge for size, edge in zip(larger.shape, window, strict=True))


def test_positions_and_weights_are_those_of_monai():
    utils = pytest.importorskip("monai.data.utils")
    inferers = pytest.importorskip("monai.inferers.utils")
    sizes = product((8, 9, 31), (16, 40), (5, 12, 13))
    for size, overlap in product(sizes, (0.0, 0.25, 0.5, 0.9)):
        window = (8, 16, 5)
        steps = inferers._get_scan_interval(size, window, 3, (overlap,) * 3)
        assert places(size, window, overlap) == utils.dense_patch_slices(size, window, steps)
    for window in ((128, 128, 48), (5, 8, 13), (1, 2, 3)):
        theirs = utils.compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
        assert torch.equal(importance(window), theirs)


@pytest.mark.parametrize("mirror", [(), ("i", "k")])
@pytest.mark.parametrize("shape", [(40, 21, 13), (16, 9, 24), (5, 6, 7)])
def test_predictions_equal_those_of_monais_sliding_window(shape, mirror, state):
    inferers = pytest.importorskip("monai.inferers")
    predictor = predictor_of(state, mirror)
    flips = [(), (2,), (4,), (2, 4)] if mirror else [()]

    def mean(windows):
        scores = [predictor.network(windows.flip(axes)).softmax(1).flip(axes) for axes in flips]
        return sum(scores) / len(flips)

    image = some_image(shape)
    with torch.inference_mode():
        tensor = torch.from_numpy(z_score(image))[None, None]
        theirs = inferers.sliding_window_inference(
            tensor, predictor.window, 1, mean, overlap=0.5, mode="gaussian", sigma_scale=0.125
        )[0].numpy()
    np.testing.assert_allclose(predictor(image), theirs / theirs.sum(0), atol=ROUNDED)


@pytest.mark.parametrize("mirror", [(), ("i", "j", "k")])
def test_bits_do_not_depend_on_the_number_of_cores(mirror, state):
    image = some_image((32, 24, 16))  # more windows than cores
    alone = predictor_of(state, mirror)(image)
    for cores in (2, 3, 8):
        beside = predictor_of(state, mirror, cores=lambda number=cores: number)
        np.testing.assert_array_equal(beside(image), alone)


def test_a_fault_beside_others_is_raised(state):
    predictor = predictor_of(state, cores=lambda: 2)
    predictor.network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        predictor(some_image((40, 36, 20)))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_cast_once_give_the_bits_of_weights_cast_in_every_window(precision, state):
    predictor = predictor_of(state, precision=precision)
    network = build(make_plan((1.0, 1.0, 2.0), (40, 40, 20), cases=4, classes=2,
                              options=UNet3DOptions(base_channels=4, max_channels=16,
                                                    patch=(16, 16, 8))), 2)  # fmt: skip
    load_weights(network, state, WEIGHTS)
    kept = replace(predictor, network=network.eval())
    window = torch.from_numpy(some_image((1, 1, *predictor.window)))
    with torch.inference_mode(), autocast("cpu", precision, fp16_is_safe=True):
        assert torch.equal(predictor.network(window), kept.network(window))


LOADED = """
import sys
from pathlib import Path
from crossmod import Context
from crossmod.data.state import load_state
from crossmod_unet3d import UNet3DOptions
from crossmod_unet3d.predict import Predictor
Predictor.of(load_state(Path(sys.argv[1])), UNet3DOptions(), Context(Path("nowhere")))
print(*{"torch._dynamo", "torch.distributed.tensor"} & sys.modules.keys())
"""


def test_loading_a_network_imports_no_compiler(state, tmp_path):
    """Which takes longer than anything else: random numbers on the device "meta" would do it."""
    save_state(tmp_path, state)
    command = [sys.executable, "-c", LOADED, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
