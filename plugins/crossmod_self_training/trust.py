"""What speaks for and against a pseudo-label, told without any label of the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmod import (
    Case,
    Cohort,
    History,
    LabelArray,
    Pair,
    Prediction,
    agreement,
    dice,
    keep_largest,
    label_of,
    touching,
)
from crossmod_self_training.clean import confidence
from crossmod_self_training.drift import other_side_mm3

if TYPE_CHECKING:
    from crossmod_self_training import SelfTrainingOptions


@dataclass(frozen=True)
class Judged:
    """A pseudo-label and what was found of it.

    Attributes:
        pair: what a segmenter would learn from.
        why: why it is dropped; empty where it is kept.
        figures: name -> value, finite.
    """

    pair: Pair
    why: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The row of the ledger, see `PseudoLabeler.select`."""
        told = {"case": self.pair.case, "center": self.pair.center}
        kept = {"kept": "no" if self.why else "yes", "why": self.why}
        masked = 0.0 if self.pair.ignore is None else float(self.pair.ignore.mean())
        counted = {} if self.why else {"weight": self.pair.weight, "masked_share": masked}
        return {**told, **kept, **counted, **self.figures}


class Judge:
    """Cleans predictions and decides case by case.

    Args:
        options: what the recipe says.
        classes: class name -> label.
        history: the rounds before, and the source where volumes are compared with it.
    """

    def __init__(
        self, options: SelfTrainingOptions, classes: Mapping[str, int], history: History
    ) -> None:
        self.options, self.classes = options, classes
        self.label = label_of(options.structure, classes)
        self.structure = next(name for name, label in classes.items() if label == self.label)
        self.cleaned = [
            label_of(name, classes, where="largest_component") for name in options.largest_component
        ]
        self.before = _by_name(history.rounds[-1]) if history.rounds else {}
        self.usual_mm3 = _mean_volumes(history.source) if history.source else {}

    def __call__(self, prediction: Prediction) -> Judged:
        """Judge one case."""
        options, labels = self.options, self._clean(prediction.labels)
        pair = prediction.pair(labels)
        found = bool((labels == self.label).any())
        certainty = confidence(prediction.probabilities, labels, self.label)
        why = ""
        if found and certainty < options.min_confidence:
            why = f"confidence {certainty:.2f}"
        elif not found and not options.keep_empty:
            why = f"no {self.structure} found"
        if not options.judges:
            return Judged(pair, why)
        figures = {"confidence": certainty, **self._figures(prediction, labels)}
        pair = replace(pair, ignore=self._masked(prediction, labels))
        return Judged(pair, why or self._doubt(figures), figures)

    def _clean(self, labels: LabelArray) -> LabelArray:
        for value in self.cleaned:
            labels = keep_largest(labels, value)
        return labels

    def _same_parts(self, fold: LabelArray, labels: LabelArray) -> LabelArray:
        """What a fold outlined, without the components that cleaning would remove."""
        for value in self.cleaned:
            fold = touching(fold, value, labels == value)
        return fold

    def _figures(self, prediction: Prediction, labels: LabelArray) -> dict[str, float]:
        """Everything that is known of a case; what is not is left out."""
        image = prediction.image
        agreed = agreement(
            [self._same_parts(one, labels) for one in prediction.folds], self.classes
        )
        figures = {f"agreement_{one}": value for one, value in agreed.items()}
        figures["entropy"] = entropy(prediction, labels, self.label)
        figures |= {
            f"volume_mm3_{one}": v for one, v in volumes(labels, image.affine, self.classes)
        }
        for one, usual in self.usual_mm3.items():
            figures[f"volume_ratio_{one}"] = figures[f"volume_mm3_{one}"] / usual
        mask = labels == self.label
        if earlier := self.before.get(prediction.case):
            overlap = dice(earlier.pair().labels == self.label, mask)
            figures["change"] = 0.0 if math.isnan(overlap) else 1 - overlap
        away = other_side_mm3(prediction.labels, self.label, image.affine)
        figures[f"other_side_mm3_{self.structure}"] = away
        return {one: float(value) for one, value in figures.items() if math.isfinite(value)}

    def _doubt(self, figures: Mapping[str, float]) -> str:
        """What a limit of the options says against a case; empty if nothing does."""
        options = self.options
        agreed = figures.get(f"agreement_{self.structure}", 1.0)
        if agreed < options.min_agreement:
            return f"agreement {agreed:.2f}"
        if options.max_entropy and figures.get("entropy", 0.0) > options.max_entropy:
            return f"entropy {figures['entropy']:.2f}"
        if figures.get("change", 0.0) > options.max_change:
            return f"changed by {figures['change']:.2f} since the last round"
        return self._odd_volume(figures)

    def _odd_volume(self, figures: Mapping[str, float]) -> str:
        if self.options.volume_window:
            low, high = self.options.volume_window
            for name in self.usual_mm3:
                ratio = figures[f"volume_ratio_{name}"]
                if not low <= ratio <= high:
                    return f"{name} of {ratio:.2f} times the mean volume of the source"
        return ""

    def _masked(self, prediction: Prediction, labels: LabelArray) -> np.ndarray | None:
        """Voxels about which the folds disagree; those that cleaning changed are certain."""
        folds = prediction.folds
        if not self.options.mask_below or not len(folds):
            return None
        votes = np.zeros(labels.shape)
        for one in folds:
            votes += one == prediction.labels
        doubtful = votes / len(folds) < self.options.mask_below
        return np.asarray(doubtful & (labels == prediction.labels))


def entropy(prediction: Prediction, labels: LabelArray, label: int) -> float:
    """Mean of -p log p of a structure over the voxels labeled so, 0 to 1/e; NaN without any.

    The selection of the champion of FLARE24, task 3, which keeps cases below 0.3.
    """
    shares = prediction.probabilities[label][labels == label].astype(np.float64)
    return float(-(shares * np.log(np.maximum(shares, 1e-12))).mean()) if shares.size else math.nan


def volumes(
    labels: LabelArray, affine: np.ndarray, classes: Mapping[str, int]
) -> Iterator[tuple[str, float]]:
    """Class name and mm3 in a label map."""
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    for name, label in classes.items():
        yield name, voxel * int(np.count_nonzero(labels == label))


def _mean_volumes(source: Cohort) -> dict[str, float]:
    """Class name -> mean mm3 over the cases that show the class; a class of none is left out."""
    found: dict[str, list[float]] = {}
    for pair in source.pairs():
        for name, volume in volumes(pair.labels, pair.image.affine, source.classes):
            if volume:
                found.setdefault(name, []).append(volume)
    return {name: float(np.mean(several)) for name, several in found.items()}


def _by_name(cohort: Cohort) -> dict[str, Case]:
    return {case.case: case for case in cohort.cases}
