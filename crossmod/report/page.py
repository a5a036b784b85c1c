"""Puts tables, charts and pictures together into one file that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.data.cohorts import Cohort
from crossmod.report.charts import intensity_chart, lesion_chart, score_chart
from crossmod.report.content import ReportContent, spread_cases
from crossmod.report.coverage import Coverage, coverage_of
from crossmod.report.drawing import Chart, drawing
from crossmod.report.galleries import Gallery, augmentations, drawn_panels, translations
from crossmod.report.overlays import overlays
from crossmod.report.survey import Sighting, survey
from crossmod.report.survival import survival_rows, worst_survivals
from crossmod.report.tables import (
    SPLIT_NOTES,
    Table,
    headline,
    score_tables,
    splits,
    stage_notes,
    timing_bars,
)
from crossmod.report.templates import render
from crossmod.report.training import trainings_of
from crossmod.report.tries import tries_parts
from crossmod.report.trust import ledger_part
from crossmod.report.weakest import Ranking, rankings
from crossmod.scores.table import penalties, reported

MAX_SURVEYED = 120
"""Cases of a cohort that are opened for the charts."""


@dataclass(frozen=True)
class Surveyed:
    """What was seen of the cohorts, each by at most `MAX_SURVEYED` cases."""

    source: Sequence[Sighting]
    training: Sequence[Sighting]
    target: Sequence[Sighting]
    pseudo: Sequence[Sighting]
    copies: Sequence[tuple[str, Sequence[Sighting], Sequence[Sighting]]]
    """Stage, its copies, and the originals beside them."""

    @property
    def added(self) -> Sequence[Sighting]:
        """The newest copies."""
        return self.copies[-1][1] if self.copies else ()

    def coverage(self) -> Coverage | None:
        """How far the training is from the target without copies and with those of each stage."""
        several = len(self.copies) > 1
        told = [
            (f"with the copies for {stage}" if several else "with copies", [*originals, *added])
            for stage, added, originals in self.copies
        ]
        return coverage_of([("without copies", self.training), *told], self.pseudo)


@dataclass(frozen=True)
class Results:
    """One split: what it is, its tables, a chart per structure, and where it is weakest."""

    split: str
    note: str
    tables: Sequence[Table]
    charts: Sequence[tuple[str, Chart]]
    rankings: Sequence[Ranking]


def write_report(path: Path, content: ReportContent) -> list[Chart]:
    """Write one HTML file without external references; return its charts.

    Args:
        path: the file; its folder must exist.
        content: what to show. Parts that are empty are left out or said to be empty.
    """
    seen = _survey(content)
    coverage = seen.coverage()
    with drawing():
        charts = _cohort_charts(content, seen, coverage)
        results = [_results(content, split) for split in splits(content)]
    page = render(
        "report.html.j2",
        content=content,
        metrics=reported(),
        penalties=penalties(reported()),
        headline=headline(content),
        notes=stage_notes(content),
        results=results,
        charts=charts,
        trainings=trainings_of(content.trainings),
        galleries=_galleries(content, seen),
        survival=survival_rows(content),
        panels=drawn_panels(content),
        timings=timing_bars(content),
        ledger=ledger_part(content),
        coverage=coverage,
        tries=tries_parts(content),
    )
    path.write_text(page, encoding="utf-8")
    return [*charts, *(chart for result in results for _, chart in result.charts)]


def _survey(content: ReportContent) -> Surveyed:
    def look(cohort: Cohort | None) -> list[Sighting]:
        cases = spread_cases(cohort, content.centers, MAX_SURVEYED) if cohort else []
        return survey(cases, content.label)

    source = look(content.source)
    training = look(content.training[1]) if content.translated else source
    return Surveyed(
        source,
        training,
        look(content.target),
        look(content.rounds[-1] if content.rounds else None),
        [
            (one.stage, look(one.made), look(one.originals) if one.originals else training)
            for one in content.copies
        ],
    )


def _cohort_charts(
    content: ReportContent, seen: Surveyed, coverage: Coverage | None
) -> list[Chart]:
    groups = [("real target", "area", seen.target), ("source", "dashed", seen.source)]
    if content.translated:
        groups.append((f"source after {content.training[0]}", "line", seen.training))
    charts = []
    if seen.source or seen.target:
        charts.append(intensity_chart(groups, content.centers))
    if any(item.volume_mm3 for item in (*seen.training, *seen.pseudo)):
        ends = coverage.means if coverage else ()
        charts.append(
            lesion_chart(
                content.structure,
                seen.training,
                seen.added,
                seen.pseudo,
                content.centers,
                [*ends[:1], *ends[1:][-1:]],
            )
        )
    return charts


def _results(content: ReportContent, split: str) -> Results:
    tables = score_tables(content, split)
    charts: list[tuple[str, Chart]] = []
    for table in tables:
        chosen = [
            item
            for item in content.scores
            if (item.split, item.structure) == (split, table.structure)
            and item.center in content.centers
        ]
        part = f"scores-{len(charts)}-{splits(content).index(split)}"
        name = f"scores-{split}-{table.structure}"
        charts.append((table.structure, score_chart(chosen, content.centers, part, name)))
    note = SPLIT_NOTES.get(split, "")
    return Results(split, note, tables, charts, rankings(content, split))


def _galleries(content: ReportContent, seen: Surveyed) -> dict[str, Gallery]:
    return {
        "translation": translations(content, seen.source),
        "survival": worst_survivals(content),
        "augmentation": augmentations(content),
        "predictions": overlays(content),
    }
