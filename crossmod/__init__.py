"""crossmod teaches a segmentation model a modality nobody has labeled.

Everything a plugin author needs is importable from here, and what Python code calls: `run`,
`open_run`, `load_model` and `animate`. `dir(crossmod)` lists it. Names are looked up when first
used, so that the command line answers at once; importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from crossmod.data.animation import Animation, animate
    from crossmod.data.cohorts import Case, Cohort
    from crossmod.data.guided import RescaleGroup
    from crossmod.data.lesions import (
        Bounds,
        FitOn,
        Lesion,
        Where,
        distinct_names,
        keep_largest,
        label_of,
        match_groups,
        measure,
        rescale,
        unmatched_groups,
    )
    from crossmod.data.overlap import agreement, dice
    from crossmod.data.parts import touching
    from crossmod.data.state import State
    from crossmod.data.volumes import FloatArray, LabelArray, Pair, Prediction, Volume
    from crossmod.errors import CrossmodError, DataError, MachineError, PluginError, RecipeError
    from crossmod.model.load import Model, load_model
    from crossmod.model.predict import Outlined
    from crossmod.notebook.figure import Curves, Figure
    from crossmod.notebook.opened import OpenRun, open_run
    from crossmod.notebook.steps import OpenStep
    from crossmod.options import (
        CenterName,
        CenterPattern,
        ClassName,
        Count,
        Fraction,
        Options,
        Positive,
        Rate,
        Size,
        Spacing,
        Weight,
    )
    from crossmod.scores.shift import in_voxels, mean_shift_mm
    from crossmod.scores.table import Masks, Metric
    from crossmod.stages.base import (
        Augmenter,
        DataFacts,
        History,
        PairTranslator,
        PseudoLabeler,
        ScanFacts,
        Segmenter,
        Stage,
        Translator,
    )
    from crossmod.stages.context import Context
    from crossmod.stages.hooks import hookimpl

__all__ = [
    "Animation",
    "Augmenter",
    "Bounds",
    "Case",
    "CenterName",
    "CenterPattern",
    "ClassName",
    "Cohort",
    "Context",
    "Count",
    "CrossmodError",
    "Curves",
    "DataError",
    "DataFacts",
    "Figure",
    "FitOn",
    "FloatArray",
    "Fraction",
    "History",
    "LabelArray",
    "Lesion",
    "MachineError",
    "Masks",
    "Metric",
    "Model",
    "OpenRun",
    "OpenStep",
    "Options",
    "Outlined",
    "Pair",
    "PairTranslator",
    "PluginError",
    "Positive",
    "Prediction",
    "PseudoLabeler",
    "Rate",
    "RecipeError",
    "RescaleGroup",
    "ScanFacts",
    "Segmenter",
    "Size",
    "Spacing",
    "Stage",
    "State",
    "Translator",
    "Volume",
    "Weight",
    "Where",
    "__version__",
    "agreement",
    "animate",
    "dice",
    "distinct_names",
    "hookimpl",
    "in_voxels",
    "keep_largest",
    "label_of",
    "load_model",
    "match_groups",
    "mean_shift_mm",
    "measure",
    "open_run",
    "rescale",
    "run",
    "touching",
    "unmatched_groups",
]

_HOMES = {
    "crossmod.data.animation": ("Animation", "animate"),
    "crossmod.data.cohorts": ("Case", "Cohort"),
    "crossmod.data.guided": ("RescaleGroup",),
    "crossmod.data.overlap": ("agreement", "dice"),
    "crossmod.data.parts": ("touching",),
    "crossmod.data.state": ("State",),
    "crossmod.data.volumes": (
        "FloatArray",
        "LabelArray",
        "Pair",
        "Prediction",
        "Volume",
    ),
    "crossmod.errors": ("CrossmodError", "DataError", "MachineError", "PluginError", "RecipeError"),
    "crossmod.model.load": ("Model", "load_model"),
    "crossmod.model.predict": ("Outlined",),
    "crossmod.notebook.figure": ("Curves", "Figure"),
    "crossmod.notebook.opened": ("OpenRun", "open_run"),
    "crossmod.notebook.steps": ("OpenStep",),
    "crossmod.scores.shift": ("in_voxels", "mean_shift_mm"),
    "crossmod.scores.table": ("Masks", "Metric"),
    "crossmod.stages.hooks": ("hookimpl",),
    "crossmod.data.lesions": (
        "Bounds",
        "FitOn",
        "Lesion",
        "Where",
        "distinct_names",
        "keep_largest",
        "label_of",
        "match_groups",
        "measure",
        "rescale",
        "unmatched_groups",
    ),
    "crossmod.options": (
        "CenterName",
        "CenterPattern",
        "ClassName",
        "Count",
        "Fraction",
        "Options",
        "Positive",
        "Rate",
        "Size",
        "Spacing",
        "Weight",
    ),
    "crossmod.stages.base": (
        "Augmenter",
        "DataFacts",
        "History",
        "PairTranslator",
        "PseudoLabeler",
        "ScanFacts",
        "Segmenter",
        "Stage",
        "Translator",
    ),
    "crossmod.stages.context": ("Context",),
}


def __dir__() -> list[str]:
    return list(__all__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("crossmod")
    if name == "run":  # a package that can be called
        return import_module("crossmod.run")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'crossmod' has no attribute '{name}'")
