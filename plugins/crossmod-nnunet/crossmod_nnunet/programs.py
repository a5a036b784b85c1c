"""The programs of nnU-Net, in the order in which they work, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import torch

from crossmod import Cohort, Context, Prediction, State, Volume
from crossmod_nnunet.raw import DATASET, ENDING, name_of, write_raw

if TYPE_CHECKING:
    from crossmod_nnunet import NNUNetOptions

TRAINERS = Path(__file__).with_name("trainers")
TRAINER = "CrossmodTrainer"
"""The class in that folder; it derives from the trainer of the options."""

OWN_TRAINERS = "nnUNet_extTrainer"
"""The variable that names folders with trainers of the user."""

PLANS = "crossmod"
WEIGHT = "weight."
AT_ONCE = 16
"""Volumes that one program predicts: it takes seconds to start."""

CURVES = {"loss": "train_losses", "validation_loss": "val_losses", "dice": "ema_fg_dice"}
"""What the report calls the curves of nnU-Net's own log."""

MARK = "crossmod epoch: "
"""What stands before the numbers of an epoch where the trainer prints them."""


class Training:
    """Trains one fold in a folder that survives restarts.

    Args:
        options: what the recipe says.
        ctx: the run.
    """

    def __init__(self, options: NNUNetOptions, ctx: Context) -> None:
        self.options, self.ctx = options, ctx
        self.folders = {
            f"nnUNet_{name}": ctx.keep / name for name in ("raw", "preprocessed", "results")
        }
        self.preprocessed = self.folders["nnUNet_preprocessed"] / DATASET
        kind, self.seen = device_of(ctx)
        self.device = ["-device", kind]

    def learn(self, train: Cohort, validation: Cohort) -> State:
        """What nnU-Net learns from the first cohort while it watches the second."""
        write_raw(self.folders["nnUNet_raw"] / DATASET, train + validation)
        planned = self.ctx.keep / "planned"
        if not planned.exists():
            shutil.rmtree(self.preprocessed, ignore_errors=True)
            self._plan()
            planned.touch()
        fold = self._split(len(train), len(validation))
        # It begins anew where there is no checkpoint to continue from.
        command = ["nnUNetv2_train", "1", self.options.configuration, fold, "-tr", TRAINER]
        # Without other processes, augmentation is repeatable.
        env = self._environment() | {"nnUNet_n_proc_DA": str(max(0, self.ctx.cores() - 1))}
        heard = replace(self.ctx, log=self._hear)
        heard.run([*command, "-p", PLANS, *self.device, "--c"], env=env)
        place = f"{TRAINER}__{PLANS}__{self.options.configuration}"
        return self._learned(self.folders["nnUNet_results"] / DATASET / place, fold)

    def _plan(self) -> None:
        options, processes = self.options, str(max(1, self.ctx.cores()))
        memory = [] if options.memory_gb is None else ["-gpu_memory_target", str(options.memory_gb)]
        self.ctx.run(
            [
                *("nnUNetv2_plan_and_preprocess", "-d", "1", "-c", options.configuration),
                *("-pl", options.planner, "-overwrite_plans_name", PLANS, *memory),
                *("-np", processes, "-npfp", processes, "--no_pbar"),
            ],
            env=self._environment(),
        )

    def _split(self, train: int, validation: int) -> str:
        """Write the one fold that there is, and return its name."""
        names = [name_of(number) for number in range(train + validation)]
        split = {"train": names[:train], "val": names[train:]}
        text = json.dumps([split])
        (self.preprocessed / "splits_final.json").write_text(text, encoding="utf-8")
        return "0" if validation else "all"

    def _environment(self) -> dict[str, str]:
        options, own = self.options, os.environ.get(OWN_TRAINERS, "")
        numbers = {
            "CROSSMOD_NNUNET_SEED": self.ctx.seed % 2**32,
            "CROSSMOD_NNUNET_EPOCHS": options.epochs or 0,
            "CROSSMOD_NNUNET_ITERATIONS": options.iterations or 0,
        }
        return {
            **{name: str(folder) for name, folder in self.folders.items()},
            **{name: str(number) for name, number in numbers.items()},
            **self.seen,
            "CROSSMOD_NNUNET_TRAINER": options.trainer,
            "CROSSMOD_NNUNET_CURVES": json.dumps(CURVES),
            "CROSSMOD_NNUNET_MARK": MARK,
            OWN_TRAINERS: os.pathsep.join(filter(None, [str(TRAINERS), own])),
        }

    def _learned(self, results: Path, fold: str) -> State:
        """Weights as arrays and plans as notes; the rest of a checkpoint is for training."""
        file = results / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint = torch.load(file, "cpu", weights_only=False)  # it was written just now, here
        weights = checkpoint["network_weights"]
        notes = {
            "plans": _json(results / "plans.json"),
            "dataset": _json(results / "dataset.json"),
            "configuration": self.options.configuration,
            "trainer": self.options.trainer,
            "mirrored_axes": list(checkpoint["inference_allowed_mirroring_axes"] or ()),
        }
        return State({f"{WEIGHT}{name}": one.numpy() for name, one in weights.items()}, notes)

    def _hear(self, line: str) -> None:
        """Note the numbers of an epoch; all else that is printed goes to the log."""
        _, told, numbers = line.partition(MARK)
        if told:
            self.ctx.metric(**json.loads(numbers))
        else:
            self.ctx.log(line)


def predict(
    volumes: Iterable[Volume], state: State, options: NNUNetOptions, ctx: Context
) -> Iterator[Prediction]:
    """Yield the probabilities of each volume, in order."""
    write_model(ctx.keep / "model", state)
    remaining = iter(volumes)
    # A new volume reads its file again, so that not all images are held in memory.
    while some := [replace(volume) for volume in islice(remaining, AT_ONCE)]:
        yield from _predict_some(some, options, ctx)


def write_model(folder: Path, state: State) -> None:
    """Write a folder that nnU-Net predicts from, with a checkpoint that holds no code."""
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    for name in ("plans", "dataset"):
        text = json.dumps(state.notes[name])
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    weights = {
        name.removeprefix(WEIGHT): torch.from_numpy(np.array(array))
        for name, array in state.items()
    }
    checkpoint = {
        "network_weights": weights,
        "trainer_name": state.notes["trainer"],
        "init_args": {"configuration": state.notes["configuration"]},
        "inference_allowed_mirroring_axes": tuple(state.notes["mirrored_axes"]),
    }
    torch.save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")


def _predict_some(
    volumes: list[Volume], options: NNUNetOptions, ctx: Context
) -> Iterator[Prediction]:
    given, found = ctx.keep / "given", ctx.keep / "found"
    for folder in (given, found):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for number, volume in enumerate(volumes):
        image = nibabel.Nifti1Image(replace(volume).data[0], volume.affine)
        nibabel.save(image, given / f"{name_of(number)}_0000{ENDING}")
    kind, seen = device_of(ctx)
    ctx.run(
        [
            *("nnUNetv2_predict_from_modelfolder", "-i", given, "-o", found),
            *("-m", ctx.keep / "model", "-f", "all", "-step_size", str(options.step_size)),
            *([] if options.mirror_predictions else ["--disable_tta"]),
            *("-device", kind, "-npp", "1", "-nps", "1"),
            *("--save_probabilities", "--disable_progress_bar"),
        ],
        env=seen,
    )
    for number, volume in enumerate(volumes):
        with np.load(found / f"{name_of(number)}.npz") as file:
            shares = file["probabilities"].astype(np.float32)
        # Its arrays are (C, K, J, I), as SimpleITK has them.
        yield Prediction(volume, np.ascontiguousarray(shares.transpose(0, 3, 2, 1)))


def device_of(ctx: Context) -> tuple[str, dict[str, str]]:
    """What nnU-Net calls the device, and the variable by which it sees that GPU only."""
    kind, _, number = ctx.device.partition(":")
    if kind != "cuda":
        return kind, {}
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    index = int(number or 0)
    return kind, {"CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
