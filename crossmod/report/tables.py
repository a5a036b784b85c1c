"""The headline tables, the sentences around them, and how long everything took."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from crossmod.report.content import NO_ADAPTATION, ORACLE, ReportContent
from crossmod.scores.metrics import OVERALL, Summary, summarize
from crossmod.scores.table import DICE, Metric, reported

NOTES = {
    ORACLE: "trained on labels of the target scans; a reference that feeds nothing",
    NO_ADAPTATION: "trained on source images as they are",
    "translated": "trained on translated source images",
    "augmented": "trained on translated source images and augmented copies of them",
    r"round-\d+": "trained on these and on target scans with the labels the stage before predicted",
}
"""What stages were trained on, by name or pattern."""

SPLIT_NOTES = {
    "validation": "Real target scans that took no part in any training.",
    "target": "Real target scans that stages learned from without labels. An oracle was trained on"
    " these very scans and labels: its row is a bound rather than a comparison.",
}
"""What the cases of a split are."""


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: mean, rounded.
        spread: standard deviation, rounded, or empty.
        best: whether no other stage of the method does better.
    """

    text: str
    spread: str
    best: bool


@dataclass(frozen=True)
class Row:
    """One stage: for each column group (center or overall) the metrics that reports show."""

    stage: str
    is_reference: bool
    cells: Sequence[Cell]
    cases: int
    penalized: int
    not_applicable: int


@dataclass(frozen=True)
class Table:
    """Scores of one structure in one split."""

    split: str
    structure: str
    groups: Sequence[str]
    rows: Sequence[Row]


def splits(content: ReportContent) -> list[str]:
    """The splits that were scored, validation first."""
    found = dict.fromkeys(item.split for item in content.scores)
    return sorted(found, key=lambda split: split != "validation")


def score_tables(content: ReportContent, split: str) -> list[Table]:
    """A table per structure, the lesion first."""
    others = [name for name in content.classes if name != content.structure]
    tables = [_table(content, split, name) for name in (content.structure, *others)]
    return [table for table in tables if table.rows]


def _table(content: ReportContent, split: str, structure: str) -> Table:
    summaries = summarize(content.scores, split, structure)
    found = {item.center for item in summaries}
    groups = [OVERALL, *(center for center in content.centers if center in found)]
    if len(groups) == 2:
        groups = [OVERALL]  # one center is all centers
    by_place = {(item.stage, item.center): item for item in summaries}
    best = {group: _best([s for s in summaries if s.center == group]) for group in groups}
    rows = []
    for stage in dict.fromkeys(item.stage for item in summaries):
        cells = [
            _cell(metric, by_place.get((stage, group)), best[group][metric])
            for group in groups
            for metric in reported()
        ]
        total = by_place[stage, OVERALL]
        rows.append(
            Row(
                stage,
                stage in (ORACLE, NO_ADAPTATION),
                cells,
                total.cases,
                total.penalized,
                total.not_applicable,
            )
        )
    return Table(split, structure, groups, rows)


def _best(summaries: Sequence[Summary]) -> dict[Metric, float]:
    """The best mean of every metric; NaN where a stage cannot be the best."""
    own = [s for s in summaries if s.stage != ORACLE and s.spreads[DICE.column][0] > 0]
    best = dict.fromkeys(reported(), math.nan)
    for metric in best:
        means = [s.spreads[metric.column][0] for s in own]
        known = [mean for mean in means if not math.isnan(mean)]
        if known and metric.better:
            best[metric] = max(known) if metric.better == "higher" else min(known)
    return best


def _cell(metric: Metric, summary: Summary | None, best: float) -> Cell:
    if summary is None or not summary.cases:
        return Cell("n/a", "", best=False)
    mean, sd = summary.spreads[metric.column]
    spread = "" if math.isnan(sd) else f"± {metric.text(sd)}"
    return Cell(metric.text(mean), spread, best=summary.stage != ORACLE and mean == best)


def stage_notes(content: ReportContent) -> list[tuple[str, str]]:
    """(stage, what it was trained on) for the stages whose names are known."""
    stages = dict.fromkeys(item.stage for item in content.scores)
    return [
        (stage, note)
        for stage in stages
        for pattern, note in NOTES.items()
        if re.fullmatch(pattern, stage)
    ]


def headline(content: ReportContent) -> list[tuple[str, str]]:
    """(what, mean Dice of the lesion) to show above everything else; empty without scores."""
    for split in splits(content)[:1]:
        means = {
            item.stage: item
            for item in summarize(content.scores, split, content.structure)
            if item.center == OVERALL and item.cases
        }
        wanted = {
            NO_ADAPTATION: "without adaptation",
            content.adapted: f"after {content.adapted}",
            ORACLE: "trained on target labels",
        }
        return [
            (words, f"{means[stage].spreads[DICE.column][0]:.2f}")
            for stage, words in wanted.items()
            if stage in means
        ]
    return []


def duration(seconds: float) -> str:
    """A length of time as a person would say it."""
    if seconds < 0.1:
        return "< 0.1 s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def timing_bars(content: ReportContent) -> list[tuple[str, str, float]]:
    """(step, duration, percent of the longest)."""
    longest = max((seconds for _, seconds in content.timings), default=0.0) or 1.0
    return [(step, duration(s), 100 * s / longest) for step, s in content.timings]
