"""A folder that holds what the pages take for granted; its runs take seconds and learn nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import dicom_files
import nibabel
import numpy as np
import scenes
from program import Program

RECIPE = """\
extends = "smoke"
title = "Tiny"
[data]
phantom = { source = 2, target = 2, validation = 2 }
[preprocess]
spacing_mm = [3.0, 3.0, 3.0]
crop = [40, 32]
[translate.gan]
discriminator_layers = 1
[augment.tumors]
min_size = 25
start_scales = [1]
[segment]
patch = [24, 24, 16]
[evaluate]
compare = []
"""
MINE = 'extends = "quickstart"\n[segment]\nfolds = 2\n'
NAMES = ("quickstart", "crossmoda2022", "crossmoda2022-journal")
"""Recipes of the pages. A file in the folder comes before a shipped recipe of that name."""

SHORT = ("--set", "augment=false", "--set", "pseudo_label=false")


def furnish(folder: Path) -> None:
    """Make everything that a page names without telling how to make it."""
    desk = Program(folder)
    write_recipes(folder)
    run_them(desk)
    desk("package", "runs/quickstart", "model")
    write_scans(folder)
    write_dicom(folder)
    write_raw_folders(folder)
    score(desk)


def write_recipes(folder: Path) -> None:
    (folder / "recipes").mkdir()
    for place in ("quickstart.toml", *(f"recipes/{name}.toml" for name in NAMES)):
        (folder / place).write_text(RECIPE, encoding="utf-8")
    (folder / "mine.toml").write_text(MINE, encoding="utf-8")


def run_them(desk: Program) -> None:
    """Two recipes, and two seeds of a shorter one; a copy is another run to compare with.

    All are about the same patients: DIR holds those of the embedded cohort.
    """
    runs = desk.folder / "runs"
    desk("run", "recipes/quickstart.toml")
    shutil.copytree(runs / "quickstart" / "01-phantom", desk.folder / "DIR")
    desk("run", "mine.toml", "--data", "DIR")
    for seed, name in enumerate("ab"):
        desk("run", "quickstart", *SHORT, "--set", f"seed={seed}", "--out", f"runs/{name}")
    shutil.copytree(runs / "mine", runs / "c")


def target_scans(folder: Path) -> list[Path]:
    return sorted((folder / "DIR/crossmoda2022_training/training_target").glob("*.nii.gz"))


def validation_scans(folder: Path) -> list[Path]:
    return sorted((folder / "DIR/crossmoda2022_validation/validation").glob("*.nii.gz"))


def case_of(scan: Path) -> str:
    return scan.name.rpartition("_")[0]


def write_scans(folder: Path) -> None:
    for name, scans in {"scans": validation_scans, "incoming": target_scans}.items():
        (folder / name).mkdir()
        for scan in scans(folder):
            shutil.copy(scan, folder / name)


def write_dicom(folder: Path) -> None:
    """T2 series of patients, from scans of the cohort."""
    scan = nibabel.load(target_scans(folder)[0])
    data = np.asarray(scan.dataobj).astype(np.int16)
    for place in ("patient-1", "patient-2", "hospital/patient-3", "held-out/patient-4"):
        scenes.write_dicom(folder / place, data, scan.affine)
        for file in (folder / place).iterdir():
            dicom_files.put(file, SeriesDescription="T2 axial", FrameOfReferenceUID="1.2.9")


def write_raw_folders(folder: Path) -> None:
    """Data sets of nnU-Net: labeled scans, unlabeled ones, and labeled ones held out."""
    sources = sorted((folder / "DIR/crossmoda2022_training/training_source").glob("*_ceT1.*"))
    write_raw(folder / "nnUNet_raw/Dataset001_VST1", sources, sources[0].parent)
    write_raw(folder / "nnUNet_raw/Dataset002_VST2", target_scans(folder), None)
    held_out = validation_scans(folder)
    write_raw(folder / "nnUNet_raw/Dataset003_VST2test", held_out, folder / "DIR/hidden")


def write_raw(raw: Path, scans: list[Path], labels: Path | None) -> None:
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for scan in scans:
        case = case_of(scan)
        shutil.copy(scan, raw / "imagesTr" / f"{case}_0000.nii.gz")
        if labels:
            shutil.copy(labels / f"{case}_Label.nii.gz", raw / "labelsTr" / f"{case}.nii.gz")
    about = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "tumor": 1, "cochlea": 2},
        "numTraining": len(scans),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def score(desk: Program) -> None:
    """Outlines of a run and their references, and the scores of three teams on these cases."""
    folder = desk.folder
    [predicted] = folder.glob("runs/quickstart/*-predict-round-1-validation/labels")
    shutil.copytree(predicted, folder / "PREDICTIONS")
    (folder / "REFERENCES").mkdir()
    for scan in validation_scans(folder):
        shutil.copy(folder / "DIR/hidden" / f"{case_of(scan)}_Label.nii.gz", folder / "REFERENCES")
    for team, outlines in {"a": "PREDICTIONS", "b": "REFERENCES"}.items():
        (folder / team).mkdir()
        desk("evaluate", outlines, "REFERENCES", "--out", f"{team}/scores.csv")
    shutil.copy(folder / "a/scores.csv", folder / "red.csv")
    shutil.copy(folder / "b/scores.csv", folder / "blue.csv")
    with (folder / "SCORES.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Case", "Team", "VS_Dice", "VS_ASSD"])
        rows.writerows([case, team, dice, 1.5] for case in "123"
                       for team, dice in (("red", 0.8), ("blue", 0.7)))  # fmt: skip
