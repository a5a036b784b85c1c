"""The steps of a run. Each says what its result depends on, and makes it in a folder."""

from crossmod.steps.appearance import Augment, Fit, PluginStep, Translate
from crossmod.steps.base import Step
from crossmod.steps.files import label_map
from crossmod.steps.scans import DataFolder, MakePhantom, Prepare
from crossmod.steps.segmentation import Gate, Predict, PseudoLabel, Regrid, ScoreStage, Train

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
