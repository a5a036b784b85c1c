"""The numbers of the challenge recipe against those of its sources, typed again here.

Sources, as in the recipe: [J] the journal, [C] the authors' challenge report, [N] their notebook,
[S] their other SinGAN code, [D] the reference code they say they used, [A] assumed where the text
gives no number.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crossmod_cyclegan.networks import Discriminator, Generator
from crossmod_cyclegan.train import learning_rate_factor
from crossmod_singan_gba import train as singan
from crossmod_singan_gba.pyramid import sides_of
from crossmod_singan_gba.scales import ratios_of
from crossmod_unet3d import UNet3DOptions
from crossmod_unet3d import train as unet
from torch import nn

from crossmod.data.outline import BRIGHT_PERCENTILE
from crossmod.recipe.load import Checked, load
from crossmod.recipe.lock import locked

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = RECIPES / "crossmoda2022.toml"

CONSTANTS: dict[str, Any] = {
    "preprocess.spacing_mm": [0.6, 0.6, 1.0],  # [C]
    "preprocess.crop": [256, 256],  # [C]
    "preprocess.interpolation": "linear",  # [A]
    "preprocess.center": "bright",  # [J] mean position of the brightest quarter of all voxels
    "preprocess.clip_fractions": [0.0, 1.0],  # [A] Choi 2021
    # CycleGAN: Zhu et al. 2017 and the options of its code, "without major change" [N]
    "translate.gan.fit_on.center": "ldn",  # [J, C]
    "translate.gan.base_channels": 64,  # [D]
    "translate.gan.blocks": 9,  # [D] at 256 pixels
    "translate.gan.downsamplings": 2,  # [D]
    "translate.gan.upsampling": "transposed",  # [D]
    "translate.gan.discriminator_channels": 64,  # [D]
    "translate.gan.discriminator_layers": 3,  # [D]
    "translate.gan.discriminator_rate": 1.0,  # [D] one rate for all networks
    "translate.gan.weight_average": 0.0,  # [D] the last weights
    "translate.gan.cycle_weight": 10.0,  # [A] the default
    "translate.gan.identity_weight": 0.5,  # [D]
    "translate.gan.pool_size": 50,  # [D]
    "translate.gan.learning_rate": 2e-4,  # [D]
    "translate.gan.batch_size": 1,  # [D]
    "translate.gan.epochs": 100,  # [A] the default
    "translate.gan.decay_epochs": 100,  # [A] the default
    "translate.gan.resize_to": 286,  # [D] load_size; crop_size is the side of the slices
    "translate.gan.flip": True,  # [D]
    "translate.sharpen.psf_mm": [1.0, 1.0, 2.5],  # [C]
    "translate.sharpen.psf_is": "fwhm",  # [A]
    "translate.sharpen.iterations": 15,  # [C]
    "translate.sharpen.relaxation": 1.0,  # [A] Van Cittert 1931
    "translate.sharpen.nonnegative": True,  # [A]
    # SinGAN: Shaham et al. 2019 and the options of its code
    "augment.tumors.fit_on.center": "ldn",  # [A]
    "augment.tumors.keep_originals": True,  # [C] for tumors, originals and copies are used
    "augment.tumors.scale_factor": 0.85,  # [C, S]
    "augment.tumors.min_size": 25,  # [D]
    "augment.tumors.max_size": 1024,  # [S]; [D] has 250, which would shrink the slice
    "augment.tumors.width": 32,  # [D]
    "augment.tumors.width_doubles_every": 4,  # [D]
    "augment.tumors.max_width": 128,  # [D]
    "augment.tumors.kernel": 5,  # [S]; [N] "ker5"
    "augment.tumors.iterations": 2000,  # [D, S]
    "augment.tumors.steps": 3,  # [D]
    "augment.tumors.learning_rate": 5e-4,  # [D]
    "augment.tumors.penalty_weight": 0.1,  # [D]
    "augment.tumors.reconstruction_weight": 10.0,  # [D]
    "augment.tumors.noise_weight": 0.1,  # [D]
    "augment.tumors.start_scales": [13, 15],  # [C]
    "augment.tumors.mask_radius": 7,  # [D]
    "augment.tumors.mask_sigma": 5.0,  # [D]
    # nnU-Net, 3d_fullres: Isensee et al. 2021
    "segment.folds": 5,  # [J]
    "segment.average": "probabilities",  # [D] version 1
    "segment.largest_component": ["tumor"],  # [J]
    "segment.base_channels": 32,  # [D]
    "segment.max_channels": 320,  # [D]
    "segment.epochs": 500,  # [C]
    "segment.iterations_per_epoch": 250,  # [D]
    "segment.optimizer": "sgd",  # [D]
    "segment.learning_rate": 0.01,  # [D]
    "segment.weight_decay": 3e-5,  # [D]
    "segment.batch_dice": False,  # [D] without a low-resolution stage
    "segment.foreground_fraction": 0.33,  # [D]
    "segment.mirror": ["i", "j", "k"],  # [D]
    "segment.mirror_predictions": True,  # [D]
    "segment.overlap": 0.5,  # [D]
    "segment.augmentation": {  # [D]; blur and low resolution once more halved per channel
        "rotation": 0.2,
        "scaling": 0.2,
        "noise": 0.1,
        "blur": 0.1,
        "brightness": 0.15,
        "contrast": 0.15,
        "low_resolution": 0.125,
        "inverted_gamma": 0.1,
        "gamma": 0.3,
        "bias_field": 0.0,
        "class_contrast": 0.0,
        "random_convolution": 0.0,
    },
    "pseudo_label.rounds": 3,  # [J, C]
    "pseudo_label.warm_start": False,  # [J] trained anew
    "pseudo_label.tolerance": 0.0,  # [A] the printed limit is lost
    "pseudo_label.min_confidence": 0.0,  # [J] no filter but the ensemble
    "pseudo_label.largest_component": ["tumor"],  # [J]
    "pseudo_label.last.train_on": "target",  # [C]
    "pseudo_label.last.preprocess.spacing_mm": [0.4, 0.4, 1.0],  # [C]
    "pseudo_label.last.preprocess.crop": [384, 384],  # [A] the same field of view
    "pseudo_label.last.segment": {"epochs": 1000},  # [C]
}

VOXEL_MM3 = 0.6 * 0.6 * 1.0
GROUPS = {  # [C]: scans, voxels of the limit, factors
    "large-heterogeneous": (29, 6500, (0.7, 1.2, 1.5)),
    "small": (19, 800, (0.6, 0.8, 1.2)),
}
SIDES = [25, 29, 33, 39, 45, 52, 60, 69, 80, 93, 107, 124, 143, 166, 191, 221, 256]


@pytest.fixture(scope="module")
def checked() -> Checked:
    return load(RECIPE)


@pytest.fixture(scope="module")
def tables(checked: Checked) -> dict[str, Any]:
    """The recipe with every default filled in."""
    return tomllib.loads(locked(checked))


@pytest.mark.parametrize(("key", "value"), CONSTANTS.items(), ids=CONSTANTS.keys())
def test_constant(tables: dict[str, Any], key: str, value: Any) -> None:
    found: Any = tables
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_trainings_are_counted_in_epochs(checked: Checked) -> None:
    for use in (checked.translators[0], checked.segmentation.use, checked.last.use):
        assert use.options.iterations is None


def test_the_bright_quarter_is_the_one_of_the_paper() -> None:
    assert BRIGHT_PERCENTILE == 75  # [C]


def test_tumors_alone_are_learned(checked: Checked) -> None:
    classes = checked.recipe.data.class_table  # [J, C]: cochleas apart, or not at all
    assert classes.labels == {"tumor": 1}
    assert classes.to_labels(np.array([0, 1, 2], np.uint8)).tolist() == [0, 1, 0]


def test_the_generator_has_the_size_of_the_reference(checked: Checked) -> None:
    options = checked.translators[0].options
    generator = Generator(options.base_channels, options.blocks, options.downsamplings)
    judge = Discriminator(options.discriminator_channels, options.discriminator_layers)
    # Of resnet_9blocks and the 70 x 70 PatchGAN with one channel.
    assert round(parameters(generator) / 1e6, 2) == 11.37
    assert round(parameters(judge) / 1e6, 2) == 2.76
    seen = 1
    for layer in reversed([m for m in judge.modules() if isinstance(m, nn.Conv2d)]):
        seen = (seen - 1) * layer.stride[0] + layer.kernel_size[0]
    assert seen == 70


def parameters(network: nn.Module) -> int:
    return sum(array.numel() for array in network.parameters())


def test_the_learning_rate_falls_in_the_second_half(checked: Checked) -> None:
    options = checked.translators[0].options
    factors = [learning_rate_factor(epoch, 1, options) for epoch in range(200)]
    assert factors[:100] == [1.0] * 100
    # [D] 1 - max(0, e + 1 - 100) / 101 in epoch e = 0, 1, ...
    assert factors[100] == pytest.approx(100 / 101)
    assert factors[-1] == pytest.approx(1 / 101)


def test_a_slice_of_256_pixels_has_17_scales(checked: Checked) -> None:
    options = checked.augmenters[0].options
    ratios = ratios_of((256, 256), options.scale_factor, options.min_size, options.max_size)
    assert [side for side, _ in sides_of((256, 256), ratios)] == SIDES
    assert ratios[-2] == pytest.approx(0.8647, abs=1e-4)  # [D] corrected from 0.85
    assert [len(SIDES) - start for start in options.start_scales] == [4, 2]
    options.check_scales((256, 256))


def test_the_slice_is_not_shrunk(checked: Checked) -> None:
    assert checked.augmenters[0].options.max_size >= 256  # [S]; [D] has 250


def test_48_tumors_make_288_copies(checked: Checked) -> None:
    options = checked.augmenters[0].options
    copies = 0
    for group in options.groups:
        scans, _, factors = GROUPS[group.name]
        assert group.factors == factors
        assert group.means == ()
        assert group.texture == 1.0  # [J] equation (5)
        assert len(group.factors) * len(options.starts_of(group)) == 6
        copies += scans * len(group.factors) * len(options.starts_of(group))
    assert copies == 288


def test_groups_are_limited_by_voxels_of_the_common_grid(checked: Checked) -> None:
    large, small = checked.augmenters[0].options.groups
    assert large.where.center == "etz"
    assert small.where.center is None  # both centers
    assert large.where.volume_mm3.above == pytest.approx(GROUPS[large.name][1] * VOXEL_MM3)
    assert small.where.volume_mm3.below == pytest.approx(GROUPS[small.name][1] * VOXEL_MM3)
    assert large.where.std.above == 0.09
    assert (large.where.volume_mm3.below, small.where.volume_mm3.above) == (None, None)


def test_singan_slows_down_as_in_the_reference() -> None:
    assert (singan.DROP_AFTER * 2000, singan.LEARNING_RATE_DROP) == (1600, 0.1)  # [D]


def test_the_planner_is_left_to_itself(checked: Checked) -> None:
    """So that the plans of test_unet_plan.py are those of this recipe."""
    for setup in (checked.segmentation, checked.last):
        options, default = setup.use.options, UNet3DOptions()
        for name in ("memory_gb", "base_channels", "max_channels", "patch", "batch_size"):
            assert getattr(options, name) == getattr(default, name)


def test_the_segmenter_is_optimized_as_in_the_reference() -> None:
    assert (unet.MOMENTUM, unet.POWER, unet.LARGEST_GRADIENT) == (0.99, 0.9, 12)  # [D]


def test_twenty_models_in_four_trainings(checked: Checked) -> None:
    assert checked.recipe.pseudo_label
    assert checked.segmentation.table.folds * (1 + checked.recipe.pseudo_label.rounds) == 20  # [J]
    assert checked.last.table.folds == 5
    assert checked.last.use.options.epochs == 1000


def test_the_last_round_has_the_same_field_of_view(checked: Checked) -> None:
    first, last = checked.segmentation.preprocess, checked.last.preprocess
    assert first.crop
    assert last.crop
    assert np.multiply(first.crop, first.spacing_mm[:2]) == pytest.approx([153.6, 153.6])
    assert np.multiply(last.crop, last.spacing_mm[:2]) == pytest.approx([153.6, 153.6])


def test_the_journal_differs_in_its_last_round_only(tables: dict[str, Any]) -> None:
    journal = tomllib.loads(locked(load(RECIPES / "crossmoda2022-journal.toml")))
    assert differences(tables, journal) == {
        "title": (tables["title"], "CrossMoDA 2022: GBA and self-training, as in the journal"),
        "pseudo_label.last.train_on": ("target", "all"),
        "pseudo_label.last.preprocess.spacing_mm": ([0.4, 0.4, 1.0], None),
        "pseudo_label.last.preprocess.crop": ([384, 384], None),
    }


def differences(one: Any, other: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Keys, with dots, at which two tables differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return {} if one == other else {key: (one, other)}
    found: dict[str, tuple[Any, Any]] = {}
    for name in [*one, *(name for name in other if name not in one)]:
        found |= differences(one.get(name), other.get(name), f"{key}.{name}".strip("."))
    return found


TAG = re.compile(r"\[[JCNSDA](, [JCNSDA])*\]")
HEADER = re.compile(r"\[\[?[a-z_.]+\]\]?")
NUMBER = re.compile(r"(?<![\w.])\d")


def untagged(text: str) -> list[str]:
    """Lines with a number whose source is not said.

    It is said on the line, in the comment right above, at the table's header, or on a line above
    that ends "and so on", up to the end of its table.
    """
    found = []
    above = table = ""
    for line in text.splitlines():
        code, _, comment = re.sub(r'"[^"]*"', "", line).partition("#")
        if not code.strip():
            above = f"{above} {comment}" if comment and line.startswith("#") else ""
            continue
        if HEADER.fullmatch(code.strip()):
            table = comment
        if "and so on" in comment:
            table = f"{table} {comment}"
        if NUMBER.search(code) and not TAG.search(f"{comment} {above} {table}"):
            found.append(line)
        above = ""
    return found


def test_every_number_has_a_source() -> None:
    assert untagged(RECIPE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a = 1", 1),
        ("a = 1  # [C]", 0),
        ("a = 1  # one of [J, C]", 0),
        ("# [N]\na = { b = 1 }", 0),
        ("# [N]\n\na = 1", 1),
        ("[t]  # [D]\na = 1\nb = 2\n[u]\nc = 3", 1),
        ("[t]\na = 1  # [D] and so on\nb = 2\n[u]\nc = 3", 1),
        ('a = "1"  # no number', 0),
        ("volume_mm3 = true", 0),
    ],
)
def test_numbers_without_a_source_are_found(text: str, count: int) -> None:
    assert len(untagged(text)) == count
