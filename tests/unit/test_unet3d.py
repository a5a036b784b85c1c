"""The 3D U-Net on tiny volumes: shapes, seeds, sampling, loss, and that it learns.

Everything is float32: one operation rounds by 6e-8 of its result, and by how much a sum is rounded
depends on the processor. Tolerances are at least ten times what the operations can add up to.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crossmod_unet3d import Augmentation, UNet3D, UNet3DOptions
from crossmod_unet3d.memory import room_for_cases
from crossmod_unet3d.networks import WEIGHTS, Block, build
from crossmod_unet3d.patches import PatchSource, loader_threads
from crossmod_unet3d.plan import Plan, make_plan
from crossmod_unet3d.predict import Predictor
from crossmod_unet3d.sampling import TrainingCases, cut, draw_center, is_forced
from crossmod_unet3d.train import deep_loss, dice_and_cross_entropy
from crossmod_unet3d.windows import importance
from safetensors.numpy import save

from crossmod import Context, RecipeError, State, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.data.state import load_state, parse_state, save_state
from crossmod.stages import contract

CLASSES = {"tumor": 1, "cochlea": 2}
SHAPE = (24, 20, 16)
TINY = {"base_channels": 4, "max_channels": 16, "optimizer": "adamw", "learning_rate": 1e-2}
PLAIN = dict.fromkeys(Augmentation.model_fields, 0.0)
GOLDEN_LOSSES = (2.1747, 2.0938)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # workers of pytest share the cores
    yield
    torch.set_num_threads(before)


def bright_cubes(folder, count, seed=0, shape=SHAPE):
    """Cases with a bright cube of 6 voxels, the tumor, in dim noise."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    writer = CohortWriter(folder, CLASSES)
    for number in range(count):
        image = rng.random(shape, dtype=np.float32) * 0.3
        labels = np.zeros(shape, np.uint8)
        corner = rng.integers(1, np.array(shape) - 7)
        cube = tuple(slice(a, a + 6) for a in corner)
        image[cube] += 0.5
        labels[cube] = 1
        writer.add(Volume.of(image[None], np.eye(4), case=f"case-{number}"), labels=labels)
    return writer.close()


def no_cases(cohort):
    return cohort.only(lambda case: False)


def make_context(folder, seed=0):
    notes = []
    ctx = Context(folder, seed=seed, classes=CLASSES, metric=lambda **values: notes.append(values))
    return ctx, notes


def losses_of(notes):
    return [note["loss"] for note in notes if "loss" in note]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return bright_cubes(tmp_path_factory.mktemp("data") / "train", 6)


def test_offering_the_stage_does_not_import_torch():
    code = "import sys, crossmod_unet3d; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_learns_bright_cubes(tmp_path, cohort):
    unseen = bright_cubes(tmp_path / "unseen", 3, seed=9)
    stage = UNet3D(UNet3DOptions(**TINY, iterations=60, iterations_per_epoch=15))
    ctx, notes = make_context(tmp_path, 1)
    state = stage.fit(cohort, unseen, ctx)
    assert [note["step"] for note in notes if "loss" in note] == [15, 30, 45, 60]
    assert notes[-1]["agreement_tumor"] > 0.8, notes  # 0.975 with AVX-512
    for case, prediction in zip(
        unseen.cases, stage.predict(unseen.volumes(), state, ctx), strict=True
    ):
        assert prediction.case == case.case
        assert prediction.probabilities.shape == (3, *SHAPE)
        assert prediction.probabilities.dtype == np.float32
        # Three quotients and their sum: five roundings.
        np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)


def test_the_seed_decides_everything(tmp_path, cohort):
    stage = UNet3D(UNet3DOptions(**TINY, iterations=3))
    states = [
        stage.fit(cohort, no_cases(cohort), make_context(tmp_path, seed)[0]) for seed in (1, 1, 2)
    ]
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    assert any((array != states[2][name]).any() for name, array in states[0].items())


def test_golden_losses(tmp_path, cohort):
    stage = UNet3D(
        UNet3DOptions(
            base_channels=4,
            max_channels=16,
            iterations=6,
            iterations_per_epoch=3,
            learning_rate=0.01,
        )
    )
    ctx, notes = make_context(tmp_path)
    stage.fit(cohort, no_cases(cohort), ctx)
    # After six steps SSE, AVX2 and AVX-512 differ by 1e-7, and bf16 by 2e-4.
    assert losses_of(notes) == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_volumes_of_other_sizes_are_padded_and_tiled(tmp_path, cohort):
    stage = UNet3D(UNet3DOptions(**TINY, iterations=2, mirror_predictions=False))
    ctx, _ = make_context(tmp_path)
    state = stage.fit(cohort, no_cases(cohort), ctx)
    shapes = [(10, 9, 7), (31, 33, 17)]
    volumes = [
        Volume.of(np.random.default_rng(1).random((1, *shape), np.float32), np.eye(4), case="v")
        for shape in shapes
    ]
    found = [p.probabilities.shape[1:] for p in stage.predict(volumes, state, ctx)]
    assert found == shapes


def test_patches_larger_than_the_volume_are_padded(tmp_path, cohort):
    stage = UNet3D(UNet3DOptions(**TINY, iterations=2, patch=(32, 32, 32)))
    ctx, notes = make_context(tmp_path)
    stage.fit(cohort, no_cases(cohort), ctx)
    assert np.isfinite(losses_of(notes)).all()


def test_volumes_that_do_not_fit_the_cache_are_read_again(cohort):
    rng = np.random.default_rng(0)
    room = TrainingCases(cohort, {"cpu": 1e9}, rng)[0].bytes
    none, some, large = (TrainingCases(cohort, {"cpu": room * n}, rng) for n in (0, 2, 4))
    assert large[3] is large[3]
    assert some[1] is some[1]
    assert some[2] is not some[2]
    for index in (0, 3, 0):
        small = none[index], some[index]
        assert all(torch.equal(one.image, large[index].image) for one in small)
        assert all(torch.equal(one.labels, large[index].labels) for one in small)
        # Means of 7680 values, summed pairwise: 13 roundings, of values up to 4.
        assert large[index].image.mean() == pytest.approx(0, abs=1e-4)
        assert large[index].image.std(correction=0) == pytest.approx(1, abs=1e-4)


def test_forced_patches_show_the_structure():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[35:38, 2:4, 20:22] = 1
    voxels = {1: np.argwhere(labels == 1)}
    rng = np.random.default_rng(0)
    patch = (8, 8, 8)
    for _ in range(50):
        center = draw_center(labels.shape, patch, voxels, True, rng)
        assert cut(torch.from_numpy(labels), center, patch).any()
        assert (center >= 4).all()
        assert (center <= 36).all()


def test_rare_structures_are_drawn_as_often_as_large_ones():
    voxels = {1: np.tile([[10, 10, 10]], (1000, 1)), 2: np.array([[30, 30, 30]])}
    rng = np.random.default_rng(0)
    centers = [draw_center((40, 40, 40), (8, 8, 8), voxels, True, rng)[0] for _ in range(200)]
    assert 70 < centers.count(30) < 130


@pytest.mark.parametrize(
    ("batch", "fraction", "forced"),
    [(2, 0.33, 1), (3, 0.33, 1), (4, 0.0, 0), (2, 1.0, 2), (5, 0.5, 3)],
)
def test_share_of_forced_patches(batch, fraction, forced):
    rng = np.random.default_rng(0)
    assert sum(is_forced(item, batch, fraction, rng) for item in range(batch)) == forced


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_a_batch_of_one_keeps_the_share_over_the_steps(fraction):
    rng = np.random.default_rng(0)
    forced = np.mean([is_forced(0, 1, fraction, rng) for _ in range(2000)])
    assert forced == pytest.approx(fraction, abs=0.05)  # over four standard deviations


def test_cut_pads_with_zeros():
    array = np.arange(1, 28, dtype=np.float32).reshape(3, 3, 3)
    padded = cut(torch.from_numpy(array), np.array([1, 1, 1]), (6, 4, 3)).numpy()
    assert padded.shape == (6, 4, 3)
    np.testing.assert_array_equal(padded[2:5, 1:4], array)
    assert padded.sum() == array.sum()


def test_loss_is_that_of_monai():
    from monai.losses import DiceCELoss

    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, 5, 4, generator=rng)
    labels = torch.randint(0, 3, (2, 6, 5, 4), generator=rng)
    for batch_dice in (False, True):
        monai = DiceCELoss(
            include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice
        )
        ours = dice_and_cross_entropy(scores, labels, batch_dice=batch_dice)
        # Means of at most 720 terms, in any order: 720 roundings.
        assert ours.item() == pytest.approx(monai(scores, labels[:, None]).item(), abs=1e-4)


def test_coarse_stages_count_less():
    labels = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    labels[:, :4] = 1
    right = torch.stack([labels == value for value in range(3)], 1).float() * 50
    wrong = -right
    strides = [(1, 1, 1), (2, 2, 2)]
    coarse = (..., slice(None, None, 2), slice(None, None, 2), slice(None, None, 2))

    def loss(fine, rough):
        return deep_loss([fine, rough[coarse]], labels, strides, batch_dice=False).item()

    assert loss(right, right) == pytest.approx(0, abs=0.01)
    assert loss(wrong, right) - loss(right, right) == pytest.approx(
        2 * (loss(right, wrong) - loss(right, right)), rel=0.01
    )


def dynunet(plan: Plan, classes: int) -> torch.nn.Module:
    """MONAI's network of a plan, as nnU-Net configures it."""
    from monai.networks.nets.dynunet import DynUNet

    heads = len(plan.strides) - 3
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1 + classes,
        kernel_size=plan.kernels,
        strides=plan.strides,
        upsample_kernel_size=plan.strides[1:],
        filters=plan.channels,
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=heads > 0,
        deep_supr_num=max(heads, 1),
    )


def levels_of(network: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Class scores of a DynUNet at every resolution that is supervised."""
    finest = network.output_block(network.skip_layers(images))
    return [finest, *network.heads] if network.deep_supervision else [finest]


@pytest.mark.parametrize(
    ("spacing", "patch"),
    [((1, 1, 1), (16, 16, 16)), ((1, 1, 1), (32, 32, 32)), ((0.5, 0.5, 2), (40, 32, 8))],
)
def test_network_is_that_of_monai_with_the_same_names(spacing, patch):
    """Values, gradients and weights' names: with and without supervised stages, thick slices."""
    options = UNet3DOptions(base_channels=4, max_channels=16, patch=patch)
    plan = make_plan(spacing, patch, cases=4, classes=2, options=options)
    torch.manual_seed(0)
    ours, theirs = build(plan, 2).double(), dynunet(plan, 2).double()
    for name, weight in theirs.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == dict(theirs.named_parameters()).keys()
    images = torch.randn(2, 1, *plan.patch, dtype=torch.float64)
    upstream = None
    found = []
    for levels in (ours.levels(images), levels_of(theirs, images)):
        upstream = upstream or [torch.randn_like(scores) for scores in levels]
        network = theirs if found else ours
        named = dict(sorted(network.named_parameters()))
        gradients = torch.autograd.grad(levels, list(named.values()), upstream)
        found.append([*levels, *gradients])
    for one, other in zip(*found, strict=True):
        # Sums of at most 1e5 products, twelve layers deep, in numbers that round by 1e-16.
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_prediction_computes_as_training_does():
    """Without gradients, layers normalize by another kernel."""
    plan = make_plan((1, 1, 1), SHAPE, cases=4, classes=2, options=UNet3DOptions(base_channels=4))
    torch.manual_seed(0)
    network, image = build(plan, 2).eval(), torch.randn(2, 1, *plan.patch)
    with torch.inference_mode():
        after = network(image)
    # Ten layers of up to 864 products each: 6e-6 measured with SSE, AVX2 and AVX-512.
    torch.testing.assert_close(network(image).detach(), after, atol=1e-4, rtol=1e-3)


def test_features_stay_channels_last_on_a_cpu():
    """A layer that changes them would cost a copy, and every layer after it as well.

    Of two images, since torch computes small batches of one by kernels of its own.
    """
    plan = make_plan((1, 1, 1), SHAPE, cases=4, classes=2, options=UNet3DOptions(base_channels=4))
    network, seen = build(plan, 2), []
    for block in network.modules():
        if isinstance(block, Block):
            block.register_forward_hook(lambda _block, _given, result: seen.append(result))
    network.levels(torch.randn(2, 1, *plan.patch))
    assert len(seen) == 2 * len(plan.strides) - 1
    assert all(one.is_contiguous(memory_format=torch.channels_last_3d) for one in seen)


def test_models_packaged_with_the_network_of_monai_predict_the_same(tmp_path, cohort):
    """They hold most weights twice, under the two names that MONAI gave them."""
    stage = UNet3D(UNet3DOptions(**TINY, iterations=1, mirror_predictions=False))
    ctx, _ = make_context(tmp_path)
    state = stage.fit(cohort, no_cases(cohort), ctx)
    before = dynunet(Plan.of(state), 2)
    weights = {name.removeprefix(WEIGHTS): array for name, array in state.items()}
    before.load_state_dict({n: torch.tensor(a) for n, a in weights.items()}, strict=False)
    stored = {WEIGHTS + name: one.numpy() for name, one in before.state_dict().items()}
    assert len(stored) > len(state)
    found = [
        [prediction.probabilities for prediction in stage.predict(cohort.volumes(), one, ctx)]
        for one in (state, State(stored, state.notes))
    ]
    np.testing.assert_array_equal(*found)


def test_models_packaged_before_states_had_notes_predict_the_same(tmp_path, cohort):
    """They keep the plan as bytes of JSON among the arrays."""
    stage = UNet3D(UNet3DOptions(**TINY, iterations=1, mirror_predictions=False))
    ctx, _ = make_context(tmp_path)
    state = stage.fit(cohort, no_cases(cohort), ctx)
    save_state(tmp_path, contract.learned(state, "unet3d"))
    plan = np.frombuffer(json.dumps(state.notes["plan"]).encode(), np.uint8)
    before = parse_state(save({**state, "plan": plan}))
    assert before.notes == {}
    found = [
        [prediction.probabilities for prediction in stage.predict(cohort.volumes(), one, ctx)]
        for one in (load_state(tmp_path), before)
    ]
    np.testing.assert_array_equal(*found)
    assert Plan.of(before) == Plan.of(load_state(tmp_path))


def test_a_warm_start_takes_over_weights_and_refuses_another_network(tmp_path, cohort):
    ctx, _ = make_context(tmp_path)
    options = UNet3DOptions(**TINY, patch=(16, 16, 16), iterations=30)
    first = UNet3D(options).fit(cohort, no_cases(cohort), ctx)
    one = UNet3DOptions(**{**TINY, "learning_rate": 1e-9}, patch=(16, 16, 16), iterations=1)
    cold = UNet3D(one).fit(cohort, no_cases(cohort), ctx)
    warm = UNet3D(one).fit(cohort, no_cases(cohort), replace(ctx, start=first))
    names = [name for name in first if name.startswith("network.")]
    # One step of AdamW is at most as long as its rate, 1e-9, on any processor.
    assert all(np.allclose(warm[name], first[name], atol=1e-6) for name in names)
    assert not all(np.allclose(cold[name], first[name], atol=1e-3) for name in names)
    wider = UNet3DOptions(**{**TINY, "base_channels": 5}, patch=(16, 16, 16), iterations=1)
    with pytest.raises(RecipeError, match="its channels are"):
        UNet3D(wider).fit(cohort, no_cases(cohort), replace(ctx, start=first))


def test_batches_are_made_ahead_from_any_step(tmp_path, cohort):
    ctx, _ = make_context(tmp_path)
    cases = TrainingCases(cohort, {"cpu": 1e9}, ctx.rng("foreground"))
    options = UNet3DOptions(
        base_channels=4, patch=(8, 8, 8), batch_size=1, augmentation=PLAIN, mirror=("i",)
    )
    plan = make_plan((1, 1, 1), SHAPE, cases=4, classes=2, options=options)
    source = PatchSource(cases, plan, options, ctx)
    made = []
    counting = replace(source)
    object.__setattr__(counting, "batch", lambda step: made.append(step) or source.batch(step))
    with counting.ahead(9, threads=1) as batch_of:
        for step in (3, 4, 7, 8):
            found, expected = batch_of(step), source.batch(step)
            assert found.names == expected.names
            assert torch.equal(found.images, expected.images)
    assert {3, 4, 7, 8} <= set(made) <= set(range(3, 9))
    assert len(made) == len(set(made))


def test_making_batches_ahead_leaves_the_threads_of_the_network(tmp_path, cohort):
    ctx, _ = make_context(tmp_path)
    cases, before = TrainingCases(cohort, {"cpu": 1e9}, ctx.rng("foreground")), 2
    plan = make_plan((1, 1, 1), SHAPE, cases=4, classes=2, options=UNet3DOptions(patch=(8, 8, 8)))
    source, inside = PatchSource(cases, plan, UNet3DOptions(), ctx), []
    counting = replace(source)
    object.__setattr__(counting, "batch", lambda step: inside.append(torch.get_num_threads()))
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    try:
        with counting.ahead(3, threads=1) as batch_of:
            batch_of(0)
        assert set(inside) == {1}
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("device", "cores", "threads"),
    [("cpu", 4, 1), ("cuda", 4, 4), ("cuda", 96, 8), ("cuda:1", 1, 1)],
)
def test_threads_that_make_batches_follow_the_cores(device, cores, threads):
    assert loader_threads(Context(Path("nowhere"), device=device, cores=lambda: cores)) == threads


def test_volumes_fill_half_of_what_a_gpu_has_free_beside_the_training(monkeypatch):
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * gib)
    room = room_for_cases("cuda:1", memory_gb=8, cache_gb=3)
    assert list(room.items()) == [("cuda:1", (70 + 4 - 12) * gib / 2), ("cpu", 3 * gib)]
    assert room_for_cases("cpu", memory_gb=8, cache_gb=3) == {"cpu": 3 * gib}


def predictor_of(network, said, at_once=1, device="cpu"):
    ctx = Context(Path("nowhere"), device=device, log=said.append)
    return Predictor(network, (8, 8, 8), overlap=0.5, mirror=(), ctx=ctx, at_once=at_once)


class Small(torch.nn.Module):
    """Has memory for so many windows."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def forward(self, windows):
        if len(windows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.cat([windows, -windows], 1)


def test_without_memory_for_many_windows_a_prediction_takes_fewer():
    image, said = np.random.default_rng(0).random((20, 18, 9), np.float32), []
    expected = predictor_of(Small(9), [])(image)
    predictor = predictor_of(Small(3), said, at_once=8)
    for _ in range(2):
        # At most eight windows are averaged: some twenty roundings of values below 1.
        np.testing.assert_allclose(predictor(image), expected, atol=1e-4)
    assert said == [
        "out of memory in prediction: continued with 2 window(s) at a time, blended on cpu"
    ]


class FarAway(Predictor):
    """Its device, which computes nothing, has no memory for a whole volume."""

    def _weighted(self, volume, weights, piece):
        if volume.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert weights.is_meta
        return predictor_of(self.network, [])._weighted(volume, importance(self.window), piece)


def test_without_memory_for_the_blend_it_is_done_in_main_memory():
    image, said = np.random.default_rng(0).random((20, 18, 9), np.float32), []
    expected = predictor_of(Small(9), [])(image)
    ctx = Context(Path("nowhere"), device="meta", log=said.append)
    predictor = FarAway(Small(9), (8, 8, 8), overlap=0.5, mirror=(), ctx=ctx, at_once=2)
    np.testing.assert_allclose(predictor(image), expected, atol=1e-4)
    assert said == [
        "out of memory in prediction: continued with 1 window(s) at a time, blended on cpu"
    ]


def test_a_prediction_without_memory_for_one_window_says_so():
    with pytest.raises(torch.OutOfMemoryError, match="one window"):
        predictor_of(Small(0), [], at_once=4)(np.ones((9, 9, 9), np.float32))
