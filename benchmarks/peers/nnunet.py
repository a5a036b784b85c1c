"""nnU-Net: a training step, its patches, a window, and the time its program takes to start.

Its own planner sees twelve synthetic volumes of 128 x 128 x 48 voxels first, in a folder that all
works of a race share.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ours.programs import write_scan
from ours.scene import SPACING_MM, balls, image
from racing.turns import Turns

NAME = "Dataset501_Balls"
SHAPE = (128, 128, 48)
CASES = 12
FOLDERS = ("raw", "preprocessed", "results")
CONFIGURATION = "3d_fullres"


def step(turns: Turns, shared: str) -> None:
    """A training step on patches that are there."""
    trainer = _trainer(Path(shared))
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    for batch, _ in zip(cycle(list(islice(batches, 2))), turns, strict=False):
        trainer.train_step(batch)


def patches(turns: Turns, shared: str) -> None:
    """A batch of patches, cut and augmented in this process by batchgeneratorsv2."""
    batches, _ = _trainer(Path(shared)).get_dataloaders()
    for _ in turns:
        next(batches)


def window(turns: Turns, shared: str) -> None:
    """The scores of an image as large as a patch, without mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer = _trainer(Path(shared))
    network, plans = trainer.network, trainer.plans_manager
    network.decoder.deep_supervision = False
    network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    configuration = plans.get_configuration(CONFIGURATION)
    predictor.manual_initialization(
        network,
        plans,
        configuration,
        [network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        (0, 1, 2),
    )
    scan = torch.randn(1, *configuration.patch_size)
    with torch.inference_mode():
        for _ in turns:
            predictor.predict_sliding_window_return_logits(scan)


def predict(turns: Turns, shared: str, shape: list[int]) -> None:
    """Its whole program on one scan, which is as large as a window, without mirroring."""
    trainer = _trainer(Path(shared))
    trainer.inference_allowed_mirroring_axes = (0, 1, 2)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    plans = Path(shared) / "nnunet" / "preprocessed" / NAME
    for there, here in (("nnUNetPlans.json", "plans.json"), ("dataset.json", "dataset.json")):
        shutil.copy(plans / there, Path(trainer.output_folder_base) / here)
    write_scan(Path("scans") / "scan_0000.nii.gz", shape)
    arguments = ["-i", "scans", "-o", "out", "-d", "501", "-c", CONFIGURATION, "-f", "0"]
    arguments += ["-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta"]
    for _ in turns:
        _call("nnUNetv2_predict", *arguments)


def program(turns: Turns, name: str, arguments: list[str]) -> None:
    """Start one of its programs and wait for its end."""
    for _ in turns:
        _call(name, *arguments)


def _trainer(shared: Path) -> Any:
    """A trainer that has built its network."""
    folder = _planned(shared)
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans, dataset = (
        json.loads((folder / "preprocessed" / NAME / file).read_text(encoding="utf-8"))
        for file in ("nnUNetPlans.json", "dataset.json")
    )
    trainer = nnUNetTrainer(
        {**plans, "continue_training": False}, CONFIGURATION, 0, dataset, torch.device("cpu")
    )
    trainer.initialize()
    trainer.print_to_log_file = lambda *texts, **settings: None
    return trainer


def _planned(shared: Path) -> Path:
    """The folder of the data set, planned and preprocessed by nnU-Net once."""
    folder = shared / "nnunet"
    for kind in FOLDERS:
        os.environ[f"nnUNet_{kind}"] = str(folder / kind)
    if not (folder / "planned").exists():
        _write_raw(folder / "raw" / NAME)
        for kind in FOLDERS:
            (folder / kind).mkdir(exist_ok=True)
        _call("nnUNetv2_plan_and_preprocess", "-d", "501", "-c", CONFIGURATION, "-np", "2")
        (folder / "planned").touch()
    os.environ.update(nnUNet_n_proc_DA="0")  # patches are made in the process itself
    return folder


def _write_raw(folder: Path) -> None:
    """Volumes and label maps in nnU-Net's layout."""
    about = {
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    affine = np.diag([*SPACING_MM, 1.0])
    for number in range(CASES):
        scan, labels = image(SHAPE, number), balls(SHAPE)[1].astype(np.uint8)
        name = f"case_{number:03d}"
        nibabel.save(nibabel.Nifti1Image(scan, affine), folder / "imagesTr" / f"{name}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "labelsTr" / f"{name}.nii.gz")


def _call(name: str, *arguments: str) -> None:
    program = Path(sys.executable).with_name(name)
    subprocess.run([program, *arguments], check=True, stdout=sys.stderr)
