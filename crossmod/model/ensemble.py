"""Segmenters trained on several folds, used as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, tee
from typing import Any, NamedTuple, cast

import numpy as np

from crossmod.data.classes import Classes
from crossmod.data.grids import Grid, to_native
from crossmod.data.lesions import keep_largest
from crossmod.data.overlap import agreement
from crossmod.data.parts import touching
from crossmod.data.state import State
from crossmod.data.volumes import LabelArray, Prediction, Volume
from crossmod.model.views import VIEWS
from crossmod.options import Average
from crossmod.stages import contract
from crossmod.stages.base import Segmenter
from crossmod.stages.context import Context
from crossmod.stages.find import StageUse

SMALLEST = 1e-6
"""Probabilities are raised to this before their logarithm is taken."""


class Outline(NamedTuple):
    """The final label map of a scan.

    Attributes:
        labels: ``(I, J, K)`` on the grid of the scan, with the values of label files.
        removed_mm3: class of which only the largest component is kept -> volume of the others.
    """

    labels: LabelArray
    removed_mm3: Mapping[str, float]


@dataclass(frozen=True)
class Ensemble:
    """The models of all folds and what becomes of their predictions.

    Attributes:
        use: the segmenter.
        classes: names, labels and file values.
        average: what is averaged over the folds.
        largest_component: classes of which only the largest connected component is kept.
    """

    use: StageUse
    classes: Classes
    average: Average
    largest_component: tuple[str, ...]

    def members(
        self, volumes: Iterable[Volume], states: Sequence[State], ctx: Context
    ) -> Iterator[tuple[Prediction, ...]]:
        """For each volume, in order, the prediction of every fold."""
        stage = cast("Segmenter[Any]", self.use.stage())
        streams = []
        for state, given in zip(states, tee(volumes, len(states)), strict=True):
            mine, checked = tee(given)
            results = stage.predict(mine, state, ctx)
            streams.append(
                contract.predictions(checked, results, self.classes.labels, self.use.who)
            )
        yield from zip(*streams, strict=True)

    def views(
        self, volumes: Iterable[Volume], states: Sequence[State], ctx: Context
    ) -> Iterator[tuple[Prediction, ...]]:
        """For each volume, in order, what a single fold thinks of it and of changed views of it.

        The first is that of the volume; all of them are on its grid.
        """
        [state] = states
        stage = cast("Segmenter[Any]", self.use.stage())
        originals, shown = tee(volumes)
        changed = (view.of(volume) for volume in shown for view in VIEWS)
        mine, checked = tee(changed)
        found = contract.predictions(
            checked, stage.predict(mine, state, ctx), self.classes.labels, self.use.who
        )
        for first, volume in zip(found, originals, strict=True):
            others = islice(found, len(VIEWS) - 1)
            each = zip(VIEWS, (first, *others), strict=True)
            yield tuple(view.undone(prediction, volume) for view, prediction in each)

    def agreement(self, maps: Sequence[LabelArray], common: LabelArray) -> dict[str, float]:
        """Class -> mean Dice between every two label maps ``(I, J, K)`` of one scan.

        Of classes of which only one component is kept, those count that touch the one in
        ``common``: maps that show the same lesion agree, whatever else they show.
        """
        for name in self.largest_component:
            label = self.classes.labels[name]
            maps = [touching(one, label, common == label) for one in maps]
        return agreement(maps, self.classes.labels)

    def joined(self, members: Sequence[Prediction]) -> Prediction:
        """One prediction from those of all folds.

        Logits are known up to a constant, which the softmax removes: their mean is that of the
        logarithms of the probabilities.
        """
        mean = np.zeros(members[0].probabilities.shape, np.float32)
        for member in members:  # one after the other: a stack of all folds may not fit
            shares = member.probabilities
            if self.average == "logits":
                shares = np.log(np.maximum(shares, SMALLEST))
            mean += shares
        mean /= len(members)
        if self.average == "logits":
            mean = np.exp(mean)
            mean /= mean.sum(axis=0)
        return replace(members[0], probabilities=mean)

    def outline(self, prediction: Prediction, native: Grid) -> Outline:
        """The label map on the grid of the scan, and what cleaning took from it."""
        labels = to_native(prediction.probabilities, prediction.image.affine, native)
        cleaned = self.cleaned(labels)
        voxel_mm3 = math.prod(native.spacing_mm)
        removed = {
            name: voxel_mm3 * int(np.count_nonzero((labels != cleaned) & (labels == label)))
            for name, label in self.classes.labels.items()
            if name in self.largest_component
        }
        return Outline(self.classes.to_values(cleaned), removed)

    def cleaned(self, labels: LabelArray) -> LabelArray:
        """A label map ``(I, J, K)`` without the components that are not kept."""
        for name in self.largest_component:
            labels = keep_largest(labels, self.classes.labels[name])
        return labels
