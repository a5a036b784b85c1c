"""What two files of scores need so that one can be held against the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from crossmod.errors import DataError
from crossmod.scores.metrics import Score
from crossmod.scores.table import VOLUME

REFERENCES = ("oracle", "no-adaptation")
"""Stages that a method is compared with."""

SPLITS = ("validation", "target")
"""The split of a comparison is the first that was scored."""

SAME_VOLUME = 1e-6
"""Volumes of one label map differ by no more than this share, in whatever form it was stored."""


def split_of(splits: Iterable[str]) -> str:
    """Which split to compare; "" where scores have no split or one of another name only.

    >>> split_of(["target", "validation"])
    'validation'
    """
    found = set(splits)
    return next((split for split in SPLITS if split in found), "")


def last_stage(scores: Sequence[Score], where: str) -> tuple[list[Score], str]:
    """The scores of the last stage of the method, on one split; and which these are.

    What has no stages, as files of `crossmod evaluate`, is taken whole.

    Raises:
        DataError: the scores are empty, or one case has two scores of a class.
    """
    if not scores:
        raise DataError("has no scores", where=where, fix="score against references first")
    split = split_of(score.split for score in scores)
    stages = dict.fromkeys(score.stage for score in scores if score.split == split)
    own = [stage for stage in stages if stage not in REFERENCES] or list(stages)
    kept = [score for score in scores if (score.split, score.stage) == (split, own[-1])]
    places = [(score.case, score.structure) for score in kept]
    if len(set(places)) < len(places):
        case, structure = next(place for place in places if places.count(place) > 1)
        raise DataError(f"repeats case {case}, class {structure}", where=where)
    return kept, f"stage {own[-1]}, {split} scans" if own[-1] else ""


def require_same_classes(scores: Mapping[str, Sequence[Score]], what: str) -> list[str]:
    """The classes, in the order of the first name.

    Args:
        scores: name -> its scores.
        what: how a message about different classes begins.

    Raises:
        DataError: names have different classes.
    """
    found = {name: list(dict.fromkeys(one.structure for one in of)) for name, of in scores.items()}
    if len({frozenset(classes) for classes in found.values()}) > 1:
        lines = [f"{name}: {', '.join(classes)}" for name, classes in found.items()]
        raise DataError("\n".join([what, *lines]))
    return next(iter(found.values()), [])


def references_differ(scores: Mapping[str, Sequence[Score]]) -> list[str]:
    """Where the volumes say that names were scored against other references, a line each.

    Args:
        scores: name -> scores of one split and stage.
    """
    volumes = {
        name: {(one.case, one.structure): one.of(VOLUME) for one in found}
        for name, found in scores.items()
    }
    return [
        f"case {place[0]}, class {place[1]}: {volume:g} mm³ for {first},"
        f" {other[place]:g} mm³ for {second}"
        for (first, own), (second, other) in pairwise(volumes.items())
        for place, volume in own.items()
        if place in other and not math.isclose(volume, other[place], rel_tol=SAME_VOLUME)
    ]
