"""`resumable`: what is kept of a training, what it survives, and what it refuses to go on from."""

from __future__ import annotations

import json
import re
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn
from toy_training import (
    TOTAL,
    Sum,
    Toy,
    again,
    assert_same,
    fit,
    killed,
    overwrite,
    seal,
    undisturbed,
)

from crossmod import Context, CrossmodError, DataError, MachineError, PluginError
from crossmod.errors import Interrupted
from crossmod.run import execute
from crossmod.run.execute import Maker
from crossmod.run.task import Task
from crossmod.store.checkpoints import Checkpoints
from crossmod.testing import Watched, check_resume
from crossmod.torch import resumable

# What it survives


def test_a_training_killed_at_any_step_ends_with_the_same_bits(tmp_path):
    check_resume(fit, tmp_path, range(1, TOTAL + 1))


@pytest.mark.parametrize("name", ["optimizer", "schedule", "sum", "PCG64", "network"])
def test_a_part_left_out_is_found_by_the_check(name, tmp_path):
    def forgetful(ctx):
        toy = Toy(ctx)
        parts = {key: part for key, part in toy.parts.items() if key != name}
        for step in resumable(ctx, TOTAL, parts):
            toy.step(step)
        return toy.result()

    with pytest.raises(PluginError, match="ends with another"):
        check_resume(forgetful, tmp_path, [3])


def test_a_training_that_is_not_resumable_is_found_by_the_check(tmp_path):
    with pytest.raises(PluginError, match=r"step-1: training ended before this step"):
        check_resume(lambda ctx: {}, tmp_path, [1])
    with pytest.raises(PluginError, match=r"step-9: training ended before this step"):
        check_resume(fit, tmp_path / "other", [9])


def test_without_checkpoints_it_is_a_loop_over_all_steps(tmp_path):
    shown = []

    def progress(items, *, total=None, label=""):
        shown.append((total, label))
        return iter(items)

    ctx = Context(tmp_path, progress=progress)
    assert list(resumable(ctx, 3, {}, label="a toy", phase=2)) == [0, 1, 2]
    assert shown == [(3, "a toy")]
    assert not list(tmp_path.iterdir())


def test_a_training_that_goes_on_tells_its_steps_of_all(tmp_path, monkeypatch):
    watched, told = killed(tmp_path), []
    monkeypatch.setattr(execute, "TELL_EVERY_S", -1.0)
    task = Task("key", SimpleNamespace(name="train"), tmp_path, {})
    maker = Maker(task, told.append)
    fit(Context(watched.work, checkpoints=Watched(tmp_path), progress=maker.progress))
    assert [(one.done, one.total) for one in told] == [(4, TOTAL), (5, TOTAL)]
    told.clear()
    assert list(maker.progress("abc")) == list(maker.progress(iter("abc"), total=3)) == [*"abc"]
    assert [(one.done, one.total) for one in told] == [(0, 3), (1, 3), (2, 3)] * 2


def truncate(path):
    overwrite(path, path.read_bytes()[:-20])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    overwrite(path, content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("file", ["state.pt", "weights.safetensors"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage, file, tmp_path):
    watched = killed(tmp_path / "killed")
    damage(watched.folder / "000000004" / file)
    found, said, checkpoints = again(watched)
    assert checkpoints.began == 3
    assert len(said) == 1
    assert "checkpoint of step 4 is damaged" in said[0]
    assert_same(found, undisturbed(tmp_path / "undisturbed"))


@pytest.mark.parametrize("step", [2, TOTAL])
def test_asked_to_stop_it_keeps_a_checkpoint_and_stops(step, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    seen = []
    kept = Checkpoints(tmp_path / "kept", work, minutes=1e9, stopping=lambda: len(seen) == step)
    ctx = Context(work, checkpoints=kept, metric=lambda **values: seen.append(values))
    with pytest.raises(Interrupted, match=f"stopped after step {step} of {TOTAL}") as error:
        fit(ctx)
    assert error.value.exit_code == 5
    found = fit(replace(ctx, checkpoints=Checkpoints(tmp_path / "kept", work, minutes=1e9)))
    assert_same(found, undisturbed(tmp_path / "undisturbed"))
    assert len(seen) == TOTAL


def test_another_device_is_a_warning(tmp_path):
    watched = killed(tmp_path / "killed")
    folder = watched.folder / "000000004"
    about = json.loads((folder / "about.json").read_text())
    overwrite(folder / "about.json", json.dumps({**about, "device": "cuda"}).encode())
    seal(folder)
    found, said, _ = again(watched)
    assert len(said) == 1
    assert re.match(r"warning: .* began on cuda with torch .* goes on on cpu", said[0])
    assert_same(found, undisturbed(tmp_path / "undisturbed"))


# What it refuses


def test_another_architecture_is_refused_with_names_and_shapes(tmp_path):
    watched = killed(tmp_path)
    with pytest.raises(DataError, match="another architecture") as error:
        again(watched, width=4)
    text = str(error.value)
    assert "network.first.weight: float32 (3, 1, 3, 3) there, float32 (4, 1, 3, 3) here" in text
    assert error.value.where == str(watched.folder / "000000004")


def test_another_length_is_refused(tmp_path):
    with pytest.raises(DataError, match="total: 6 there, 8 here"):
        again(killed(tmp_path), total=8)


def test_weights_that_are_no_numbers_are_not_kept(tmp_path):
    watched = Watched(tmp_path)
    watched.work.mkdir()
    toy = Toy(Context(watched.work, checkpoints=watched))
    steps = resumable(toy.ctx, TOTAL, toy.parts)
    for _ in range(3):
        toy.step(next(steps))
    nn.init.constant_(toy.network.again.weight, np.nan)
    with pytest.raises(CrossmodError, match=r"weights of 'network' .* again\.weight"):
        next(steps)
    assert watched.newest().step == 2


def test_a_full_disk_is_an_error_with_the_file(tmp_path):
    watched = killed(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(MachineError, match="cannot write a result: File too large"):
            again(watched)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert watched.newest().step == 4


def test_a_state_that_is_not_plain_is_named(tmp_path):
    watched = Watched(tmp_path)
    watched.work.mkdir()
    odd = Sum()
    odd.rows = [{1, 2}]
    with pytest.raises(TypeError, match="the state of 'odd' holds a set"):
        list(resumable(Context(watched.work, checkpoints=watched), 3, {"odd": odd}))


@pytest.mark.parametrize("part", [lambda step: step, Sum, 3])
def test_a_part_without_a_state_is_refused_by_name(part, tmp_path):
    with pytest.raises(PluginError, match="the part 'schedule' of a training is"):
        next(resumable(Context(tmp_path), 3, {"network": nn.Linear(1, 1), "schedule": part}))
