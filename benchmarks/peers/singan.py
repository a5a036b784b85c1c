"""The official code of SinGAN, as a checkout; it trains on three channels, one does not run.

Changed when it starts: the three steps of the generator use one graph, which later versions of
torch refuse unless the counters of changes stay as they were.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from peers.patches import ITERATIONS, Clock, import_from, quiet, stand_in, write_slice
from racing.turns import Turns

ALL_ITERATIONS = 2000
SCALES = ("--scale_factor", "0.75", "--min_size", "25", "--max_size", "250")


class Adam(torch.optim.Adam):
    """Leaves the counters of changes alone."""

    def step(self, closure: Any = None) -> Any:
        """Change the weights."""
        weights = tuple(one for group in self.param_groups for one in group["params"])
        with _unsafe_preserve_version_counter(weights):
            return super().step(closure)


def fit(turns: Turns, checkout: str, side: int) -> None:
    """The training of all scales, by the time of its first iterations."""
    stand_in("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.utils")
    write_slice(Path("slice.png"), side)
    with quiet():
        training, functions = (
            import_from(checkout, f"SinGAN.{name}") for name in ("training", "functions")
        )
        schedulers = torch.optim.lr_scheduler
        training.optim = SimpleNamespace(Adam=Adam, lr_scheduler=schedulers)
        clock, arguments = Clock(training), import_from(checkout, "config").get_arguments()
        for name, value in {"input_dir": ".", "input_name": "slice.png", "mode": "train"}.items():
            arguments.add_argument(f"--{name}", default=value)
        for _ in turns:
            shutil.rmtree("TrainedModels", ignore_errors=True)
            asked = ["--niter", str(ITERATIONS), "--manualSeed", "1", "--not_cuda", *SCALES]
            options = functions.post_config(arguments.parse_args(asked))
            functions.adjust_scales2image(functions.read_image(options), options)
            training.train(options, [], [], [], [])
            turns.took(clock.take(ALL_ITERATIONS))
