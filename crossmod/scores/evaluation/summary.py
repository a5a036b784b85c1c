"""Means, spread and percentiles of outcomes: of all cases, by center, by tumor size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossmod.files.tables import write_csv
from crossmod.scores.evaluation.folders import Outcome
from crossmod.scores.metrics import OVERALL
from crossmod.scores.statistics import mean_and_sd

SMALL_MM3, LARGE_MM3 = 288.0, 2340.0
"""Tumors below the first and above the second volume are the paper's small and large ones."""

METRICS = ("dice", "assd_mm", "hd95_mm", "nsd", "volume_error")
"""The measures that are summarized."""

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
"""The rows of the paper's Table 3, between the worst case and the best."""

RUNGS = ("worst", *(f"p{p}" for p in PERCENTILES), "best")
"""The names of the percentiles, from worst to best."""

BETTER = {"dice": "higher", "assd_mm": "lower", "hd95_mm": "lower", "nsd": "higher"}
"""The metrics with a worst end. A volume error has none, since it is wrong in both directions."""

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
            distance, p5 is its plain 95th percentile. NaN for the volume error and without cases.
    """

    cases: int
    mean: float
    sd: float
    rungs: tuple[float, ...]


@dataclass(frozen=True)
class Group:
    """The outcomes of one structure in some of the cases.

    Attributes:
        structure: class name.
        by: what the cases have in common: "all", "center" or "size".
        name: `OVERALL`, the center or "other", or "small", "medium", "large".
        not_applicable: cases in which neither mask has the structure; they count nowhere else.
        empty_predictions: cases in which only the reference has it.
        spreads: metric -> its spread.
    """

    structure: str
    by: str
    name: str
    not_applicable: int
    empty_predictions: int
    spreads: Mapping[str, Spread]


def summarize(outcomes: Sequence[Outcome], tumor: str) -> list[Group]:
    """For each structure the groups "overall" and centers by name; for the tumor also its sizes.

    Args:
        outcomes: those of all structures.
        tumor: the class grouped by size. Cases whose reference lacks it have no size.
    """
    groups = []
    for structure in dict.fromkeys(item.structure for item in outcomes):
        kept = [item for item in outcomes if item.structure == structure]
        groups.append(_group(kept, structure, "all", OVERALL))
        for center in sorted({item.center for item in kept}, key=lambda name: (not name, name)):
            of_center = [item for item in kept if item.center == center]
            groups.append(_group(of_center, structure, "center", center or "other"))
        for size in ("small", "medium", "large") if structure == tumor else ():
            of_size = [item for item in kept if _size(item.measures.volume_mm3) == size]
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


def _size(volume_mm3: float) -> str:
    if volume_mm3 == 0:
        return ""
    if volume_mm3 < SMALL_MM3:
        return "small"
    return "large" if volume_mm3 > LARGE_MM3 else "medium"


def _group(outcomes: Sequence[Outcome], structure: str, by: str, name: str) -> Group:
    return Group(
        *(structure, by, name),
        sum(math.isnan(item.measures.dice) for item in outcomes),
        sum(item.measures.volume_error == -1 for item in outcomes),
        {
            metric: _spread([getattr(item.measures, metric) for item in outcomes], metric)
            for metric in METRICS
        },
    )


def _spread(values: Sequence[float], metric: str) -> Spread:
    known = [value for value in values if not math.isnan(value)]
    rungs = [math.nan] * len(RUNGS)
    if known and metric in BETTER:
        ranks = np.array([0, *PERCENTILES, 100], dtype=np.float64)
        ranks = ranks if BETTER[metric] == "higher" else 100 - ranks
        rungs = [float(value) for value in np.percentile(known, ranks)]
    return Spread(len(known), *mean_and_sd(known), tuple(rungs))
