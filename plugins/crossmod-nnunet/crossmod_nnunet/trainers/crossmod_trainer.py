"""A trainer as nnU-Net finds it: that of the recipe, with its length, and safe when killed.

nnU-Net imports this file by itself, in its own process.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

Base: Any = recursive_find_trainer_class_by_name(os.environ["CROSSMOD_NNUNET_TRAINER"])

CURVES: dict[str, str] = json.loads(os.environ["CROSSMOD_NNUNET_CURVES"])
"""What crossmod calls a number -> what nnU-Net's log does."""

MARK = os.environ["CROSSMOD_NNUNET_MARK"]
"""What crossmod looks for where numbers of an epoch are printed."""

SAVE_EVERY = 10
"""Epochs between checkpoints; nnU-Net's own 50 may be hours."""


class CrossmodTrainer(Base):  # type: ignore[misc]
    """Epochs, steps and seed come from the recipe; crossmod scores predictions itself."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net reads the signature)
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if epochs := int(os.environ["CROSSMOD_NNUNET_EPOCHS"]):
            self.num_epochs = epochs
        if iterations := int(os.environ["CROSSMOD_NNUNET_ITERATIONS"]):
            self.num_iterations_per_epoch = iterations
            self.num_val_iterations_per_epoch = max(1, iterations // 5)
        self.save_every = SAVE_EVERY
        seed = int(os.environ["CROSSMOD_NNUNET_SEED"])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def on_train_start(self) -> None:
        """Tell the epochs that a checkpoint brings, too: the step notes its numbers anew."""
        super().on_train_start()
        for epoch in range(self.current_epoch):
            self._tell(epoch)

    def on_epoch_end(self) -> None:
        """Tell the numbers of the epoch."""
        super().on_epoch_end()
        self._tell(self.current_epoch - 1)

    def _tell(self, epoch: int) -> None:
        """Print a line in one piece, so that no other process breaks into it."""
        logged = self.logger.get_checkpoint()
        curves = {name: logged[own] for name, own in CURVES.items()}
        known = {name: float(one[epoch]) for name, one in curves.items() if epoch < len(one)}
        sys.stdout.write(f"{MARK}{json.dumps({'step': epoch + 1, **known})}\n")

    def save_checkpoint(self, filename: str) -> None:
        """Replace a checkpoint by a whole one: who is killed here finds the old one."""
        draft = Path(f"{filename}.part")
        super().save_checkpoint(str(draft))
        if draft.exists():
            draft.replace(filename)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Do nothing: predicting the validation cases is another step of the run."""
