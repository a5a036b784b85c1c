"""The steps of a run. Each says what its result depends on, and makes it in a folder."""

from crossmod.run.steps.appearance import Apply, Augment, Fit, Translate
from crossmod.run.steps.base import PluginStep, Step
from crossmod.run.steps.lottery import Choose, Judge
from crossmod.run.steps.scans import DataFolder, MakePhantom, Prepare, ScanSource
from crossmod.run.steps.segmentation import (
    Gate,
    Predict,
    PseudoLabel,
    Regrid,
    ScoreStage,
    Train,
    label_map,
)
from crossmod.run.steps.survival import Survive
from crossmod.run.steps.taken import Originals

__all__ = [
    "Apply",
    "Augment",
    "Choose",
    "DataFolder",
    "Fit",
    "Gate",
    "Judge",
    "MakePhantom",
    "Originals",
    "PluginStep",
    "Predict",
    "Prepare",
    "PseudoLabel",
    "Regrid",
    "ScanSource",
    "ScoreStage",
    "Step",
    "Survive",
    "Train",
    "Translate",
    "label_map",
]
