"""Means, spread and percentiles of scores: of all cases, by center, by size of the structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossmod.files.tables import write_csv
from crossmod.scores.metrics import OVERALL, Score, known
from crossmod.scores.sizes import NAMES, USUAL
from crossmod.scores.statistics import mean_and_sd
from crossmod.scores.table import DICE, VOLUME, VOLUME_ERROR, Metric, summarized

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
"""The rows of the paper's Table 3, between the worst case and the best."""

RUNGS = ("worst", *(f"p{p}" for p in PERCENTILES), "best")
"""The names of the percentiles, from worst to best."""

COLUMNS = (
    *("class", "by", "group", "metric", "cases", "mean", "sd", *RUNGS),
    *("not_applicable", "empty_predictions"),
)
"""The columns of a summary file."""


@dataclass(frozen=True)
class Spread:
    """One metric over the cases of a group.

    Attributes:
        cases: how many cases have a value.
        mean: their mean, penalties for empty masks included; NaN without cases.
        sd: sample standard deviation (n - 1), NaN below two cases.
        rungs: ``(9,)`` percentiles counted from the worst case, as `RUNGS` names them: of a
            distance, p5 is its plain 95th percentile. NaN without cases, and for a metric without
            a worst end, as the volume error.
    """

    cases: int
    mean: float
    sd: float
    rungs: tuple[float, ...]


@dataclass(frozen=True)
class Group:
    """The scores of one structure in some of the cases.

    Attributes:
        structure: class name.
        by: what the cases have in common: "all", "center" or "size".
        name: `OVERALL`, the center or "other", or "small", "medium", "large".
        not_applicable: cases in which neither mask has the structure; they count nowhere else.
        empty_predictions: cases in which only the reference has it.
        spreads: column of a metric -> its spread.
    """

    structure: str
    by: str
    name: str
    not_applicable: int
    empty_predictions: int
    spreads: Mapping[str, Spread]


def summarize(scores: Sequence[Score], sized: str) -> list[Group]:
    """For each structure the groups "overall" and centers by name; for one of them also its sizes.

    Args:
        scores: those of all structures.
        sized: the class grouped by size. Cases whose reference lacks it have no size.
    """
    groups = []
    for structure in dict.fromkeys(item.structure for item in scores):
        kept = [item for item in scores if item.structure == structure]
        groups.append(_group(kept, structure, "all", OVERALL))
        for center in sorted({item.center for item in kept}, key=lambda name: (not name, name)):
            of_center = [item for item in kept if item.center == center]
            groups.append(_group(of_center, structure, "center", center or "other"))
        for size in NAMES if structure == sized else ():
            volumes = ((item, item.of(VOLUME)) for item in kept)
            of_size = [item for item, mm3 in volumes if mm3 and USUAL.name(mm3) == size]
            groups.append(_group(of_size, structure, "size", size))
    return groups


def write_summary(path: Path, groups: Iterable[Group]) -> None:
    """Write a CSV with the columns `COLUMNS`, a row for each group and metric; NaN is empty."""
    rows = (
        [
            *(group.structure, group.by, group.name, metric, spread.cases),
            *(spread.mean, spread.sd, *spread.rungs),
            *(group.not_applicable, group.empty_predictions),
        ]
        for group in groups
        for metric, spread in group.spreads.items()
    )
    write_csv(path, COLUMNS, rows)


def _group(scores: Sequence[Score], structure: str, by: str, name: str) -> Group:
    return Group(
        *(structure, by, name),
        sum(math.isnan(item.of(DICE)) for item in scores),
        sum(item.of(VOLUME_ERROR) == -1 for item in scores),
        {metric.column: _spread(known(scores, metric), metric) for metric in summarized()},
    )


def _spread(values: Sequence[float], metric: Metric) -> Spread:
    rungs = [math.nan] * len(RUNGS)
    if values and metric.better:
        ranks = np.array([0, *PERCENTILES, 100], dtype=np.float64)
        ranks = ranks if metric.better == "higher" else 100 - ranks
        rungs = [float(value) for value in np.percentile(values, ranks)]
    return Spread(len(values), *mean_and_sd(values), tuple(rungs))
