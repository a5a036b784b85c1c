"""The official code of ConSinGAN, as a checkout, with the settings its README gives.

Changed when it starts: what is imported and gone is replaced by nothing, and it draws no samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers.patches import ITERATIONS, Clock, import_from, leave_out, quiet, stand_in, write_slice
from racing.turns import Turns

ALL_ITERATIONS = 2000
SETTINGS: dict[str, Any] = {
    "input_name": "slice.png",
    "naive_img": "",
    "train_mode": "generation",
    "gpu": 0,
    "lr_scale": 0.1,
    "train_stages": 6,
    "fine_tune": False,
    "model_dir": "",
}


def fit(turns: Turns, checkout: str, side: int) -> None:
    """The training of all stages, by the time of their first iterations."""
    leave_out("albumentations")  # its names of 2019 are gone
    stand_in("torchvision", "torchvision.utils", "torch.utils.tensorboard")
    write_slice(Path("slice.png"), side)
    with quiet():
        training, functions = (
            import_from(checkout, f"ConSinGAN.{name}")
            for name in ("training_generation", "functions")
        )
        training.generate_samples = functions.save_image = lambda *values: None
        clock = Clock(training)
        arguments = import_from(checkout, "ConSinGAN.config").get_arguments()
        for name, value in SETTINGS.items():
            arguments.add_argument(f"--{name}", default=value)
        for _ in turns:
            asked = ["--niter", str(ITERATIONS), "--manualSeed", "1", "--not_cuda"]
            training.train(functions.post_config(arguments.parse_args(asked)))
            turns.took(clock.take(ALL_ITERATIONS))
