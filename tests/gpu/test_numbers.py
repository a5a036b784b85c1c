"""What is promised about numbers, on a GPU: each trainer at its smallest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_stages
import torch
from crossmod_unet3d.predict import Predictor
from tiny_stages import STAGES

from crossmod import Context
from crossmod.machine import out_of_memory
from crossmod.testing import CLASSES, check_resume
from crossmod.torch import set_up


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    return tiny_stages.cohorts_in(tmp_path_factory.mktemp("cohorts"))


def made(name, cohorts, folder, level="exact", **changes):
    """State and results of a stage, as arrays by name."""
    set_up(level, "cuda")
    ctx = replace(Context(folder, seed=3, classes=CLASSES, device="cuda"), **changes)
    state, results = tiny_stages.learned_and_used(STAGES[name], cohorts, ctx)
    return {**state, **{f"result {n}": one for n, one in enumerate(results)}}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", STAGES)
def test_exact_twice_is_the_same_bits(name, precision, cohorts, tmp_path):
    one, other = (made(name, cohorts, tmp_path, precision=precision) for _ in range(2))
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "singan-gba"])  # other noise
def test_a_gpu_computes_what_a_cpu_does(name, cohorts, tmp_path):
    there = made(name, cohorts, tmp_path)
    here = made(name, cohorts, tmp_path, device="cpu")
    for key in here:
        if key.startswith("result"):  # two steps of Adam turn rounding into up to 0.001
            np.testing.assert_allclose(there[key], here[key], rtol=0, atol=0.02, err_msg=key)


@pytest.mark.parametrize("name", STAGES)
def test_seeded_and_free_draw_the_same_random_numbers(name, cohorts, tmp_path):
    exact = made(name, cohorts, tmp_path)
    for level in ("seeded", "free"):
        found = made(name, cohorts, tmp_path, level)
        for key in exact:
            if key.startswith("result"):  # tf32 keeps 10 bits
                np.testing.assert_allclose(found[key], exact[key], rtol=0, atol=0.05, err_msg=key)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_training_resumes_to_the_same_bits(name, precision, cohorts, tmp_path):
    set_up("exact", "cuda")

    def fit(ctx):
        ctx = replace(ctx, device="cuda", precision=precision)
        return tiny_stages.learned(STAGES[name], cohorts, ctx)

    check_resume(fit, tmp_path, [1, 2])


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kept_on", ["cuda", "cpu"])
def test_patches_made_on_a_gpu_are_those_of_the_cpu(kept_on, thin, cohorts, tmp_path):
    set_up("seeded", "cuda")
    here = tiny_stages.patches(cohorts, tmp_path, "cpu", "cpu", thin=thin)
    there = tiny_stages.patches(cohorts, tmp_path, "cuda", kept_on, thin=thin)
    differ, voxels = 0, 0
    for step in range(40):
        ours, theirs = here.batch(step), there.batch(step)
        assert ours.names == theirs.names
        # Some hundred roundings of 6e-8, of values up to 10, which gamma may stretch tenfold.
        torch.testing.assert_close(theirs.images.cpu(), ours.images, rtol=0, atol=1e-3)
        differ += (theirs.labels.cpu() != ours.labels).sum().item()
        voxels += ours.labels.numel()
    assert differ < 1e-4 * voxels  # two labels with equal shares of a voxel, up to rounding


def test_a_prediction_that_does_not_fit_is_made_in_smaller_parts(cohorts, tmp_path):
    """As many windows at once as the memory of the GPU holds, in the end blended on the CPU."""
    stage, said = STAGES["unet3d"], []
    ctx = Context(tmp_path, classes=CLASSES, device="cuda", log=said.append)
    state = tiny_stages.learned(stage, cohorts, ctx)
    predictor = replace(
        Predictor.of(state, stage.options, ctx), window=(64, 64, 64), mirror=(), at_once=4
    )
    limit_memory(0.25e9)  # the blend alone takes 3 x 256^3 floats, 0.2 GB, twice
    found = predictor(np.random.default_rng(0).random((256, 256, 256), np.float32))
    assert found.shape == (3, 256, 256, 256)
    assert "blended on cpu" in said[-1]


def test_a_training_that_does_not_fit_names_the_memory_of_the_gpu(cohorts, tmp_path):
    options = STAGES["unet3d"].options.model_copy(update={"patch": (256, 256, 128)})
    limit_memory(0.25e9)
    with pytest.raises(torch.OutOfMemoryError) as error:
        tiny_stages.learned(
            type(STAGES["unet3d"])(options),
            cohorts,
            Context(tmp_path, classes=CLASSES, device="cuda"),
        )
    explained = out_of_memory(error.value, "step train", "")
    assert torch.cuda.get_device_name() in explained.allowed
    assert "smaller patch" in explained.fix


def limit_memory(size):
    """Let this process take so many bytes of the GPU."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(size / whole)
