"""The code of CycleGAN's authors, as a checkout of pytorch-CycleGAN-and-pix2pix.

Its own model with its default options, but one channel.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from peers.patches import import_from, quiet, stand_in
from racing.turns import Turns

DEFAULTS = {
    "netG": "resnet_9blocks",
    "netD": "basic",
    "norm": "instance",
    "init_type": "normal",
    "init_gain": 0.02,
    "n_layers_D": 3,
    "ngf": 64,
    "ndf": 64,
    "no_dropout": True,
    "lambda_identity": 0.5,
    "lambda_A": 10.0,
    "lambda_B": 10.0,
    "pool_size": 50,
    "gan_mode": "lsgan",
    "lr": 2e-4,
    "beta1": 0.5,
    "lr_policy": "linear",
    "epoch_count": 1,
    "n_epochs": 100,
    "n_epochs_decay": 100,
    "niter": 100,  # as earlier commits call these two
    "niter_decay": 100,
}


def step(turns: Turns, checkout: str, side: int) -> None:
    """A training step, batch size 1."""
    model = _model(checkout, side)
    for _ in turns:
        model.optimize_parameters()


def translate(turns: Turns, checkout: str, side: int) -> None:
    """A slice through the generator."""
    model = _model(checkout, side)
    generator = model.netG_A.eval()
    with torch.inference_mode():
        for _ in turns:
            generator(model.real_A)


def _model(checkout: str, side: int) -> Any:
    stand_in("wandb", "torchvision", "torchvision.transforms")
    work = Path.cwd() / "race"
    work.mkdir()
    about = {
        "isTrain": True,
        "checkpoints_dir": str(work.parent),
        "name": work.name,
        "device": torch.device("cpu"),
        "gpu_ids": [],
        "preprocess": "none",
        "direction": "AtoB",
        "input_nc": 1,
        "output_nc": 1,
        "continue_train": False,
        "load_iter": 0,
        "epoch": "latest",
        "verbose": False,
    }
    with quiet():
        kind = import_from(checkout, "models.cycle_gan_model").CycleGANModel
        options = SimpleNamespace(**DEFAULTS, **about)
        model = kind(options)
        model.setup(options)
    slices = {side_of: torch.rand(1, 1, side, side) * 2 - 1 for side_of in ("A", "B")}
    model.set_input({**slices, "A_paths": [""], "B_paths": [""]})
    return model
