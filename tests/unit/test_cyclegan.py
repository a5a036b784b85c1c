"""CycleGAN: networks of the published size, the published schedule, a loop that repeats exactly."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from crossmod_cyclegan import CycleGAN, CycleGANOptions
from crossmod_cyclegan.networks import (
    Discriminator,
    Generator,
    ToOneChannel,
    translate_volume,
)
from crossmod_cyclegan.resampling import (
    Doubling,
    Reflection,
    doubled_in_order,
    reflected_in_order,
)
from crossmod_cyclegan.slices import Batches, ImagePool, Slice, foreground_slices, resized
from crossmod_cyclegan.train import Trainer, learning_rate_factor, train
from PIL import Image
from pydantic import ValidationError

from crossmod import Context, DataError, RecipeError, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.torch import InstanceNorm

CTX = Context(Path("nowhere"))
UNIT = 2.0**-24
"""The largest relative error of one rounding to float32."""
TINY = CycleGANOptions(
    base_channels=4,
    blocks=1,
    discriminator_channels=4,
    discriminator_layers=1,
    iterations=4,
    batch_size=2,
    pool_size=2,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def scan(seed, shape=(26, 30, 3)):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def cohort_of(folder, **scans):
    writer = CohortWriter(folder, {"tumor": 1})
    for case, data in scans.items():
        writer.add(Volume.of(data[None], np.diag([0.6, 0.7, 1.5, 1.0]), case=case))
    return writer.close()


def cohort(folder, *, seeds, shape=(26, 30, 3)):
    return cohort_of(folder, **{f"ldn_{seed}": scan(seed, shape) for seed in seeds})


def test_networks_have_the_published_size():
    assert parameters(Generator()) == 11_365_633
    assert parameters(Discriminator()) == 2_762_689


def test_discriminator_judges_patches_of_70_pixels():
    judge = Discriminator(channels=2)
    # Without normalization, which mixes all pixels, a score depends on its patch alone.
    judge.layers = torch.nn.Sequential(
        *(layer for layer in judge.layers if not isinstance(layer, InstanceNorm))
    )
    image = torch.zeros(1, 1, 256, 256, requires_grad=True)
    scores = judge(image)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(dim=1))
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("size", [(16, 16), (17, 22), (8, 9)])
def test_generator_takes_any_size(upsampling, size):
    images = torch.rand(2, 1, *size) * 2 - 1
    for downsamplings in (0, 2):
        result = Generator(4, 1, downsamplings, upsampling)(images)
        assert result.shape == images.shape
        assert result.abs().max() <= 1


def test_convolution_to_one_channel_is_a_convolution():
    layer = ToOneChannel(5, 1, 7)
    features = torch.randn(2, 5, 12, 9)
    expected = torch.nn.functional.conv2d(features, layer.weight, layer.bias)
    # Both sum 5 * 7 * 7 products in an order of their own: at most a rounding per summand each.
    sums = torch.nn.functional.conv2d(features.abs(), layer.weight.abs(), layer.bias)
    assert torch.all((layer(features) - expected).abs() <= 2 * 5 * 7 * 7 * UNIT * sums)


def value_and_gradient(layer, images):
    """What a layer makes of images, and the gradient of its sum with weights 0 to 6."""
    images = images.clone().requires_grad_()
    result = layer(images)
    result.backward(torch.arange(result.numel()).remainder(7).reshape(result.shape).to(result))
    return result.detach(), images.grad


SAME_AS_TORCH = {
    "reflection 1": (
        lambda images: reflected_in_order(images, (1, 1), (1, 1)),
        torch.nn.ReflectionPad2d(1),
    ),
    "reflection 3": (
        lambda images: reflected_in_order(images, (3, 3), (3, 3)),
        torch.nn.ReflectionPad2d(3),
    ),
    "one side": (
        lambda images: reflected_in_order(images, (0, 2), (1, 3)),
        torch.nn.ReflectionPad2d((1, 3, 0, 2)),
    ),
    "doubling": (doubled_in_order, Doubling()),
    "reflection 3 on a CPU": (Reflection(3), torch.nn.ReflectionPad2d(3)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (12, 7)])
@pytest.mark.parametrize("name", SAME_AS_TORCH)
def test_layers_with_repeatable_gradients_are_those_of_torch(name, size, dtype):
    own, torch_layer = SAME_AS_TORCH[name]
    images = torch.randn(2, 3, *size).to(dtype)
    value, gradient = value_and_gradient(own, images)
    expected, slopes = value_and_gradient(torch_layer, images)
    assert value.dtype == gradient.dtype == dtype
    if name == "doubling":
        # The one for CPUs. Both interpolate along two axes, with at most three roundings each time.
        close = 2 * 6 * torch.finfo(dtype).eps / 2
        assert (value - expected).abs().max() <= close * images.abs().max()
        assert (gradient - slopes).abs().max() <= close * 4 * 6  # four times the largest weight
    else:
        # Gradients are sums of at most nine whole numbers up to 6, exact in any format.
        assert torch.equal(value, expected)
        assert torch.equal(gradient, slopes)


@pytest.mark.parametrize("layer", [Doubling(), doubled_in_order])
def test_doubling_undoes_a_strided_convolution_in_place(layer):
    image = torch.arange(12.0)[:, None] + 20 * torch.arange(8.0)
    center = torch.zeros(1, 1, 3, 3)
    center[..., 1, 1] = 1
    halved = torch.nn.functional.conv2d(image[None, None], center, stride=2, padding=1)
    torch.testing.assert_close(layer(halved)[0, 0, :-1, :-1], image[:-1, :-1])


def test_one_pixel_is_doubled():
    for layer in (Doubling(), doubled_in_order):
        assert torch.equal(layer(torch.ones(1, 1, 1, 1)), torch.ones(1, 1, 2, 2))


def with_torch_layers(network):
    """The same, but that normalization and activation are torch's."""
    stack = network.layers
    for number, layer in enumerate(stack):
        if isinstance(layer, InstanceNorm):
            stack[number] = torch.nn.InstanceNorm2d(stack[number - 1].out_channels)
            stack[number + 1] = torch.nn.LeakyReLU(layer.slope)
    return network


@pytest.mark.parametrize(
    "make", [partial(Generator, 4, 2, 1), partial(Generator, 4, 0, 2, "resize"), Discriminator]
)
def test_networks_are_those_of_torch_layers_with_the_same_names(make):
    network, plain = make(), with_torch_layers(make())
    network.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, 40, 48)
    # A dozen layers of up to 4096 products, normalized to about one: 1e-5 measured.
    torch.testing.assert_close(network(images), plain(images), rtol=1e-3, atol=1e-3)


def test_gradients_are_those_of_the_values():
    images = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    for layer in (lambda one: reflected_in_order(one, (3, 3), (3, 3)), doubled_in_order):
        assert torch.autograd.gradcheck(layer, images)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_smallest_side_is_the_smallest(layers):
    judge = Discriminator(2, layers)
    side = CycleGANOptions(discriminator_layers=layers).smallest_side
    assert judge(torch.zeros(1, 1, side, side)).numel() == 1
    with pytest.raises((RuntimeError, ValueError)):
        judge(torch.zeros(1, 1, side - 1, side - 1))


def test_pool_returns_new_images_until_full_then_half_old_ones():
    pool = ImagePool(10, "target", CTX)
    images = [torch.full((1, 1, 2, 2), float(value)) for value in range(400)]
    returned = [float(pool.exchange(image)[0, 0, 0, 0]) for image in images]
    assert returned[:10] == list(range(10))
    old = [before != value for value, before in enumerate(returned)][10:]
    assert 0.4 < np.mean(old) < 0.6
    # What was passed through while the pool filled may come back once.
    assert len(set(returned[10:])) == 390


def test_pool_of_size_zero_is_no_pool():
    images = torch.rand(2, 1, 2, 2)
    assert ImagePool(0, "target", CTX).exchange(images) is images


def test_learning_rate_falls_linearly_in_the_decay_epochs():
    options = CycleGANOptions()
    factors = [learning_rate_factor(epoch * 7, 7, options) for epoch in range(200)]
    assert factors[:100] == [1.0] * 100
    assert factors[100] == pytest.approx(100 / 101)
    assert factors[199] == pytest.approx(1 / 101)
    assert learning_rate_factor(100 * 7 + 6, 7, options) == factors[100]


def test_learning_rate_falls_in_the_second_half_of_iterations():
    options = CycleGANOptions(iterations=10)
    factors = [learning_rate_factor(step, 3, options) for step in range(10)]
    assert factors == pytest.approx([1] * 5 + [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def batches_of(images, size):
    slices = [Slice(image, f"a slice {k}") for k, image in enumerate(images)]
    return Batches("source", slices, np.array(size), TINY, CTX)


def test_batches_show_every_slice_once_before_repeating():
    batches = batches_of([np.full((6, 6), value / 4, np.float16) for value in range(4)], (6, 6))
    shown = [batches.batch(step) for step in range(4)]
    values = torch.cat([batch.images[:, 0, 0, 0] for batch in shown]).tolist()
    assert sorted(values[:4]) == sorted(values[4:]) == [-1.0, -0.5, 0.0, 0.5]
    names = [name for batch in shown for name in batch.names]
    assert names == [f"a slice {int(2 * value + 2)}" for value in values]


def test_a_batch_does_not_depend_on_those_before():
    images = [scan(seed, (8, 7, 1))[:, :, 0].astype(np.float16) for seed in range(3)]
    one, other = batches_of(images, (5, 4)), batches_of(images, (5, 4))
    in_order = [one.batch(step) for step in range(6)]
    for step in (5, 0, 3):
        images, names, _ = other.batch(step)
        assert torch.equal(images, in_order[step][0])
        assert names == in_order[step][1]


def test_batches_crop_and_mirror():
    image = np.arange(8 * 6, dtype=np.float16).reshape(8, 6) / 64
    batches = batches_of([image], (5, 4))
    corners, mirrored = set(), set()
    for step in range(60):
        for crop in batches.batch(step)[0][:, 0]:
            corners.add(float(crop.min()))
            mirrored.add(bool(crop[0, 0] > crop[-1, 0]))
    assert len(corners) == 4 * 3
    assert mirrored == {True, False}


def resizing(resize_to):
    return TINY.model_copy(update={"resize_to": resize_to})


def test_resized_slices_are_cropped_to_their_size_at_random():
    column, row = np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 24))
    image = ((row + column) / 2).astype(np.float16)
    options = resizing(20).model_copy(update={"flip": False})
    batches = Batches("source", [Slice(image, "a")], np.array((24, 16)), options, CTX)
    enlarged = resized(image, 20 / 16) * 2 - 1
    assert enlarged.shape == (30, 20)
    places = set()
    for step in range(60):
        for crop in batches.batch(step)[0][:, 0].numpy():
            assert crop.shape == (24, 16)
            [place] = [
                (i, j)
                for i in range(7)
                for j in range(5)
                if np.array_equal(enlarged[i : i + 24, j : j + 16], crop)
            ]
            places.add(place)
    assert {i for i, _ in places} == set(range(7))
    assert {j for _, j in places} == set(range(5))


def test_a_resized_slice_shows_the_same():
    i, j = np.meshgrid(np.linspace(0, 3, 32), np.linspace(0, 2, 20), indexing="ij")
    image = (0.5 + 0.4 * np.sin(i) * np.cos(j)).astype(np.float16)
    i, j = ((np.arange(n * 1.25) + 0.5) / 1.25 - 0.5 for n in image.shape)
    expected = 0.5 + 0.4 * np.outer(np.sin(i * 3 / 31), np.cos(j * 2 / 19))
    # Float16 rounds by 2^-12 at most; the rest is the error of cubic interpolation.
    assert resized(image, 1.25)[2:-2, 2:-2] == pytest.approx(expected[2:-2, 2:-2], abs=1e-3)


def test_resizing_stays_within_the_range():
    edge = np.zeros((12, 12), np.float16)
    edge[:, 6:] = 1
    enlarged = resized(edge, 1.5)
    assert (enlarged.min(), enlarged.max()) == (0, 1)


def test_slices_of_all_sizes_are_enlarged_alike():
    slices = [Slice(np.zeros(shape, np.float16), "a") for shape in ((16, 20), (32, 40))]
    batches = Batches("source", slices, np.array((16, 20)), resizing(24), CTX)
    assert [resized(one.image, batches.scale).shape for one in slices] == [(24, 30), (48, 60)]


def test_training_with_resized_slices(tmp_path):
    rows, _ = train_tiny(tmp_path, resizing(30))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_resizing_to_less_than_a_crop_is_refused(tmp_path):
    images = cohort(tmp_path, seeds=(1,))
    with pytest.raises(RecipeError, match=r"^resize_to: 20 is less .* 26 pixels") as error:
        CycleGAN(resizing(20)).fit(images, images, Context(tmp_path))
    assert "resize_to = 29" in str(error.value)


def test_empty_slices_are_left_out(tmp_path):
    volume = scan(0)
    volume[:, :, 1] = 0.01
    slices = foreground_slices(cohort_of(tmp_path, ldn_1=volume))
    assert [one.name for one in slices] == ["ldn_1 slice 0", "ldn_1 slice 2"]
    assert slices[1].image == pytest.approx(volume[:, :, 2], abs=2.0**-12)  # half a step below 1


def train_tiny(folder, options=TINY):
    """What is noted in a short training, and the generators."""
    torch.manual_seed(0)
    slices = [foreground_slices(cohort(folder / str(seed), seeds=(seed,))) for seed in (1, 2)]
    rows = []
    ctx = Context(folder, metric=lambda **values: rows.append(values))
    return rows, train(*slices, options, ctx)


def test_losses_of_the_first_steps(tmp_path):
    rows, _ = train_tiny(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    names = ("adversarial", "cycle", "identity", "discriminator")
    expected = [
        [1.9824, 1.0272, 1.0286, 1.0100],
        [1.9650, 1.0312, 1.0424, 0.9991],
        [1.9510, 1.0390, 1.0445, 0.9832],
        [1.9330, 1.0275, 1.0427, 0.9691],
    ]
    # Rounding decides the sign of a gradient near 0, and Adam makes a whole step of it: weights off
    # by 1e-6 move these losses by up to 3e-4.
    for row, values in zip(rows, expected, strict=True):
        assert [row[name] for name in names] == pytest.approx(values, rel=2e-3)


def test_training_repeats_exactly(tmp_path):
    (_, (first, _)), (_, (second, _)) = train_tiny(tmp_path), train_tiny(tmp_path)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_average_of_weights_lies_between_start_and_end():
    torch.manual_seed(0)
    options = TINY.model_copy(update={"weight_average": 0.9})
    trainer = Trainer(options, CTX)
    start = trainer.generators[0].layers[1].weight.detach().clone()
    trainer.set_rate(1.0)
    trainer.step(torch.rand(2, 1, 26, 30), torch.rand(2, 1, 26, 30))
    end = trainer.generators[0].layers[1].weight.detach()
    average = trainer.result[0].layers[1].weight
    # After one step the average forgets with 2 / 11.
    expected = start * 2 / 11 + end * 9 / 11
    largest = float(torch.max(start.abs().max(), end.abs().max()))
    assert torch.allclose(average, expected, rtol=0, atol=8 * UNIT * largest)  # roundings of both


def test_without_identity_loss_it_is_not_computed(tmp_path):
    rows, _ = train_tiny(tmp_path, TINY.model_copy(update={"identity_weight": 0.0}))
    assert "identity" not in rows[0]


def test_panels_show_real_translated_and_back(tmp_path):
    train_tiny(tmp_path)
    panels = sorted((tmp_path / "panels").iterdir())
    assert [path.name for path in panels] == [f"step-{step:06d}.png" for step in (1, 2, 3, 4)]
    assert np.asarray(Image.open(panels[-1])).shape == (2 * 30, 3 * 26)


def test_fit_and_translate(tmp_path):
    stage = CycleGAN(TINY)
    context = Context(tmp_path, seed=3)
    source = cohort(tmp_path / "source", seeds=(1, 2))
    target = cohort(tmp_path / "target", seeds=(3,), shape=(24, 32, 4))
    state = stage.fit(source, target, context)
    assert {name.split(".")[0] for name in state} == {"to_target", "to_source"}
    assert all(isinstance(array, np.ndarray) for array in state.values())
    originals = list(source.volumes())
    translated = list(stage.translate(iter(originals), state, context))
    for original, result in zip(originals, translated, strict=True):
        assert (result.case, result.grid) == (original.case, original.grid)
        assert np.array_equal(result.affine, original.affine)
        assert result.data.dtype == np.float32
        assert 0 <= result.data.min() < result.data.max() <= 1
    assert len(list((tmp_path / "panels").glob("*.png"))) == 4


def test_a_slice_is_translated_the_same_alone_and_in_a_volume():
    generator = Generator(4, 1, 1)
    volume = scan(0, (17, 13, 11))
    whole = translate_volume(generator, volume, CTX)
    alone = translate_volume(generator, volume[:, :, 10:], CTX)
    # Batches of another size may be summed in another order: at most 4 * 7 * 7 roundings in each of
    # six layers. Other slices differ by more than ten times that.
    close = 6 * 4 * 7 * 7 * UNIT
    assert whole[:, :, 10:] == pytest.approx(alone, abs=close)
    assert np.abs(whole[:, :, 9:10] - alone).max() > 10 * close


def test_slices_too_small_for_the_discriminator(tmp_path):
    small = cohort(tmp_path, seeds=(1,), shape=(20, 30, 2))
    with pytest.raises(DataError, match="side of 20 pixels") as error:
        CycleGAN().fit(small, small, Context(tmp_path))
    assert "24 or more" in str(error.value)


def test_empty_images_are_refused(tmp_path):
    writer = CohortWriter(tmp_path, {})
    writer.add(Volume.of(np.zeros((1, 30, 30, 2), np.float32), np.eye(4), case="a"))
    empty = writer.close()
    with pytest.raises(DataError, match="all images are empty"):
        CycleGAN().fit(empty, empty, Context(tmp_path))


def test_unknown_upsampling_is_refused():
    with pytest.raises(ValidationError, match="'transposed' or 'resize'"):
        CycleGANOptions(upsampling="nearest")


def test_importing_the_plugin_does_not_import_torch():
    code = "import sys, crossmod_cyclegan; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    folder = Path(__file__).parent
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder).returncode == 0
