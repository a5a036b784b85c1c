"""Crops of both modalities from the same place of the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crossmod_cyclegan import CycleGAN, CycleGANOptions, voxels_apart
from crossmod_cyclegan.slices import Batches, Slice
from pydantic import ValidationError
from scipy import ndimage

from crossmod import Context, Volume
from crossmod.data.cohorts import CohortWriter

CTX = Context(Path())
SIZE = np.array((24, 20))
SMALL = {"base_channels": 4, "blocks": 1, "discriminator_channels": 4, "discriminator_layers": 1}


def options(**changes):
    return CycleGANOptions.model_validate({**SMALL, "flip": False, "iterations": 2} | changes)


def cohort(folder, offset=(0, 0, 0), count=2, slices=slice(None), columns=32, shown=1):
    """Smooth random heads, moved by whole voxels."""
    writer = CohortWriter(folder, {"tumor": 1})
    for seed in range(count):
        noise = np.random.default_rng(seed).random((28, 32, 12))
        data = ndimage.gaussian_filter(noise, 2.0, mode="wrap")
        data = np.roll((data - data.min()) / np.ptp(data), offset, (0, 1, 2))
        data = shown * data[None, :, :columns, slices].astype(np.float32)
        volume = Volume.of(data, np.diag([2, 2, 2, 1]), case=f"c{seed}")
        writer.add(volume, patient=f"p{seed}")
    return writer.close()


def test_the_distance_of_mean_images_is_found(tmp_path):
    found = voxels_apart(cohort(tmp_path / "a"), cohort(tmp_path / "b", (0, 2, -1)))
    assert found == pytest.approx([0, 2], abs=0.25)


def test_it_is_found_where_scans_differ_in_their_number_of_slices(tmp_path):
    first = cohort(tmp_path / "a")
    for slices in ((0, 10), (1, 11), (0, 12)):
        other = cohort(tmp_path / f"b{slices}", (0, 2, 0), slices=slice(*slices))
        assert voxels_apart(first, other) == pytest.approx([0, 2], abs=0.25)


def test_what_cannot_be_compared_is_told(tmp_path):
    blank = cohort(tmp_path / "blank", slices=slice(0, 12), shown=0)
    said = []
    stage = CycleGAN(options(align=True, resize_to=32))
    source = cohort(tmp_path / "a")
    assert voxels_apart(source, blank) is None
    assert voxels_apart(source, cohort(tmp_path / "narrow", columns=30)) is None
    narrow = cohort(tmp_path / "b", columns=30)
    assert stage.fit(source, narrow, Context(tmp_path / "run", log=said.append))
    assert "align: source and target images cannot be compared" in "".join(said)


@pytest.mark.parametrize("apart", [(0, 3), (-2, 1), (0, 0)])
def test_crops_of_both_show_the_same_places(apart):
    """The corner of a crop holds the place in the head where it was taken."""
    i, j = np.mgrid[0:28, 0:32]
    shown = []
    for sign, (di, dj) in ((-1, (0, 0)), (1, apart)):
        head = ((i - di + 4) * 64 + (j - dj + 4)) / 2048
        slices = [Slice(head.astype(np.float16), "a")]
        batches = Batches("a", slices, SIZE, options(), CTX, sign * np.array(apart))
        shown.append({float(batches.batch(step).images[0, 0, 0, 0]) for step in range(400)})
    assert shown[0] == shown[1]
    assert len(shown[0]) == np.prod(np.array((5, 13)) - np.abs(apart))


def test_heads_too_far_apart_are_brought_as_near_as_crops_can():
    slices = [Slice(np.zeros((28, 32), np.float16), "a")]
    batches = Batches("a", slices, SIZE, options(), CTX, np.array((40, 0)))
    assert batches.batch(0).images.shape == (1, 1, *SIZE)


def test_without_random_crops_nothing_could_be_aligned():
    with pytest.raises(ValidationError, match="set resize_to"):
        options(align=True)


def test_a_training_with_aligned_crops(tmp_path):
    source, target = cohort(tmp_path / "a"), cohort(tmp_path / "b", (0, 2, 0))
    stage = CycleGAN(options(align=True, resize_to=32))
    assert stage.fit(source, target, Context(tmp_path / "run"))
