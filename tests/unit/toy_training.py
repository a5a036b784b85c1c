"""A small training on `resumable`, and what may be done to its checkpoints."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from crossmod import Context
from crossmod.files.atomic import MANIFEST, damaged_files
from crossmod.files.digests import digest_of
from crossmod.testing import Killed, Watched
from crossmod.torch import resumable, weights_of

TOTAL = 6


class Network(nn.Module):
    """Has integer buffers, tied weights, and weights that are not contiguous."""

    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.again = nn.Conv2d(width, width, 3, padding=1)
        self.tied = nn.Conv2d(width, width, 3, padding=1)
        self.tied.weight = self.again.weight
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        return self.tied(self.again(self.norm(self.first(images)).relu()))


class Sum:
    """An own class with a number, a tensor and a list."""

    def __init__(self):
        self.value, self.rows, self.last = 0.0, [], torch.zeros(4)[:2]

    def add(self, loss):
        self.value += loss
        self.rows.append((loss, None))
        self.last = torch.full((4,), loss)[:2]

    def state_dict(self):
        return {"value": np.float64(self.value), "rows": self.rows, "last": self.last}

    def load_state_dict(self, state):
        self.value, self.rows, self.last = state["value"], state["rows"], state["last"]


class Toy:
    """A training that uses every source of random numbers."""

    def __init__(self, ctx, width=3):
        torch.manual_seed(ctx.seed)
        np.random.seed(ctx.seed)
        random.seed(ctx.seed)
        self.ctx, self.network = ctx, Network(width)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.01)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 4])
        self.sum = Sum()
        self.generators = {
            kind.__name__: np.random.Generator(kind(1))
            for kind in (np.random.PCG64, np.random.MT19937)
        }

    @property
    def parts(self):
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "sum": self.sum,
            **self.generators,
        }

    def step(self, number):
        noise = [random.random(), np.random.random()]
        noise += [generator.random() for generator in self.generators.values()]
        images = torch.randn(2, 1, 5, 5) * float(np.mean(noise))
        loss = (self.network(images) - 1).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.sum.add(loss.item())
        self.ctx.metric(step=number, loss=self.sum.value)

    def result(self):
        last = {"sum": np.array(self.sum.value), "last": self.sum.last.numpy()}
        return {**weights_of(self.network), **last, "rows": np.array([a for a, _ in self.sum.rows])}


def fit(ctx, width=3, total=TOTAL):
    toy = Toy(ctx, width)
    for step in resumable(ctx, total, toy.parts):
        toy.step(step)
    return toy.result()


def killed(folder, step=4):
    """Checkpoints of a training that was killed after those of a step."""
    watched = Watched(folder, step)
    watched.work.mkdir(parents=True)
    with pytest.raises(Killed):
        fit(Context(watched.work, checkpoints=watched))
    return watched


def again(watched, **changes):
    """Go on; what was learned, and the lines for the user."""
    said = []
    checkpoints = Watched(watched.work.parent)
    checkpoints.warn = said.append
    ctx = Context(watched.work, checkpoints=checkpoints, log=said.append)
    return fit(ctx, **changes), said, checkpoints


def undisturbed(folder):
    folder.mkdir()
    return fit(Context(folder))


def assert_same(one, other):
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


def seal(folder):
    """Make the manifest of a checkpoint match what its files are now."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    for name in content["files"]:
        file = folder / name
        content["files"][name] = {"bytes": file.stat().st_size, "sha256": digest_of(file)}
    path.chmod(0o644)
    path.write_text(json.dumps(content))
    assert not damaged_files(folder)


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)
