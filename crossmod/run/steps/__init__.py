"""The steps of a run. Each says what its result depends on, and makes it in a folder."""

from crossmod.run.steps.appearance import Augment, Fit, PluginStep, Translate
from crossmod.run.steps.base import Step
from crossmod.run.steps.files import label_map
from crossmod.run.steps.scans import DataFolder, MakePhantom, Prepare
from crossmod.run.steps.segmentation import Gate, Predict, PseudoLabel, Regrid, ScoreStage, Train

__all__ = [
    "Augment",
    "DataFolder",
    "Fit",
    "Gate",
    "MakePhantom",
    "PluginStep",
    "Predict",
    "Prepare",
    "PseudoLabel",
    "Regrid",
    "ScoreStage",
    "Step",
    "Train",
    "Translate",
    "label_map",
]
