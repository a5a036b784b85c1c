"""What the core checks of everything a stage yields, so that no plugin has to.

Same case, same grid, finite values, known labels. The message names the plugin and the case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

import numpy as np

from crossmod.data import (
    Affine,
    Case,
    FloatArray,
    LabelArray,
    Pair,
    Prediction,
    Volume,
    read_grid,
)
from crossmod.errors import PluginError


def translations(given: Iterable[Volume], yielded: Iterable[Volume], who: str) -> Iterator[Volume]:
    """Pass on translated volumes that match the given ones, in order, in [0, 1]."""
    for before, after in _in_step(given, yielded, who):
        _same_case(before.case, after.case, who)
        _same_grid(before.data.shape[1:], before.affine, after, who)
        if after.data.min() < 0 or after.data.max() > 1:
            span = f"[{after.data.min():.3g}, {after.data.max():.3g}]"
            _refuse(who, after.case, f"yielded values in {span}", "[0, 1]")
        yield after


def copies(
    given: Mapping[str, Case], yielded: Iterable[Pair], classes: Mapping[str, int], who: str
) -> Iterator[Pair]:
    """Pass on augmented pairs that are copies of given ones, each under a name of its own."""
    seen: set[str] = set()
    for pair in yielded:
        original, plus, suffix = pair.case.partition("+")
        if not (plus and suffix and original in given):
            _refuse(who, pair.case, "is not a copy of a given case", "pairs from Pair.copy_as")
        if pair.case in seen:
            _refuse(who, pair.case, "was yielded twice", "one suffix for each copy")
        seen.add(pair.case)
        _same_grid(*read_grid(given[original].image), pair.image, who)
        _known_labels(pair.labels, pair.image, classes, who)
        yield pair


def predictions(
    given: Iterable[Volume], yielded: Iterable[Prediction], classes: Mapping[str, int], who: str
) -> Iterator[Prediction]:
    """Pass on predictions with one probability channel for the background and each class."""
    for before, after in _in_step(given, yielded, who):
        _same_case(before.case, after.case, who)
        expected = (1 + len(classes), *before.grid)
        if after.probabilities.shape != expected:
            found = f"yielded probabilities of shape {after.probabilities.shape}"
            _refuse(who, after.case, found, f"shape {expected}")
        _finite(after.probabilities, after.case, who)
        yield after


def selections(
    given: Mapping[str, Case], yielded: Iterable[Pair], classes: Mapping[str, int], who: str
) -> Iterator[Pair]:
    """Pass on pseudo-labeled pairs whose images are given ones."""
    for pair in yielded:
        if pair.case not in given:
            _refuse(who, pair.case, "was not among the predictions", ", ".join(given))
        _same_grid(*read_grid(given[pair.case].image), pair.image, who)
        _known_labels(pair.labels, pair.image, classes, who)
        yield pair


def _in_step(given: Iterable[Volume], yielded: Iterable, who: str) -> Iterator:  # type: ignore[type-arg]
    for before, after in zip_longest(given, yielded):
        if after is None:
            _refuse(who, before.case, "yielded nothing for this case", "one result for each volume")
        if before is None:
            _refuse(who, after.case, "yielded more results than volumes", "one for each volume")
        yield before, after


def _same_case(expected: str, found: str, who: str) -> None:
    if found != expected:
        _refuse(who, expected, f"yielded case '{found}'", "the cases in the order given")


def _same_grid(shape: tuple[int, ...], affine: Affine, after: Volume, who: str) -> None:
    if after.data.shape != (1, *shape):
        _refuse(who, after.case, f"yielded shape {after.data.shape}", f"shape {(1, *shape)}")
    if not np.allclose(affine, after.affine, atol=1e-4):
        _refuse(who, after.case, "changed the affine", "the geometry of the input")
    _finite(after.data, after.case, who)


def _finite(data: FloatArray, case: str, who: str) -> None:
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        _refuse(who, case, f"yielded {count} values that are NaN or infinite", "finite values")


def _known_labels(labels: LabelArray, image: Volume, classes: Mapping[str, int], who: str) -> None:
    if labels.shape != image.grid:
        _refuse(who, image.case, f"yielded labels of shape {labels.shape}", f"shape {image.grid}")
    unknown = set(np.unique(labels).tolist()) - {0, *classes.values()}
    if unknown:
        _refuse(who, image.case, f"yielded labels {sorted(unknown)}", f"0 and {dict(classes)}")


def _refuse(who: str, case: str, what: str, allowed: str) -> None:
    raise PluginError(what, where=f"{who}, case {case}", allowed=allowed)
