"""What code of some years ago needs to run beside today's packages, done when it starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ours.scene import image

ITERATIONS = 4
"""Of each scale; the first one allocates, the last one writes pictures: neither counts."""


class Nothing(ModuleType):
    """A module in place of one that is imported and not needed."""

    def __getattr__(self, name: str) -> Any:
        """Any of its names: a class whose objects take every call."""
        if name.startswith("__"):
            raise AttributeError(name)
        return _Idle


class _Idle:
    def __init__(self, *values: Any, **settings: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **settings: None


def stand_in(*names: str) -> None:
    """Put empty modules in place of those that cannot be imported."""
    for name in names:
        try:
            import_module(name)
        except (ImportError, RuntimeError):
            leave_out(name)


def leave_out(name: str) -> None:
    """Put an empty module in place of one."""
    sys.modules[name] = Nothing(name)
    sys.modules[name].__path__ = []


def import_from(checkout: str, name: str) -> Any:
    """A module of a checkout."""
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return import_module(name)


@contextmanager
def quiet() -> Iterator[None]:
    """What is printed goes where errors go."""
    with redirect_stdout(sys.stderr):
        yield


def write_slice(path: Path, side: int) -> None:
    """A gray slice as a colored picture."""
    from PIL import Image

    gray = np.round(255 * image((side, side))).astype(np.uint8)
    Image.fromarray(np.stack([gray] * 3, axis=-1)).save(path)


class Clock:
    """Times iterations that end with a step of two schedulers of learning rates.

    Attributes:
        scales: seconds of the iterations that count, for each scale.
    """

    def __init__(self, training: Any) -> None:
        self.scales: list[list[float]] = []
        marks: list[float] = []

        class Marking(torch.optim.lr_scheduler.MultiStepLR):
            def step(self, *values: Any, **settings: Any) -> None:
                marks.append(time.perf_counter())
                super().step(*values, **settings)

        scale: Callable[..., Any] = training.train_single_scale

        def timed(*values: Any, **settings: Any) -> Any:
            marks.clear()
            found = scale(*values, **settings)
            # Two schedulers make a first step when they are made.
            ends = marks[3::2]
            spent = [after - before for before, after in pairwise(ends)]
            self.scales.append(spent[:-1])
            return found

        torch.optim.lr_scheduler.MultiStepLR = Marking  # type: ignore[misc]
        training.train_single_scale = timed

    def take(self, iterations: int) -> float:
        """Seconds since the last call, extrapolated to a training of ``iterations`` per scale."""
        seconds = sum(map(median, self.scales)) * iterations
        self.scales.clear()
        return seconds
