"""What a report is made from, and how many of many cases it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.curves import Curve
from crossmod.data.volumes import LabelArray
from crossmod.intake import Intake
from crossmod.scores.metrics import Score
from crossmod.scores.survival import Row

ItemT = TypeVar("ItemT")

MAX_CENTERS = 6
"""More centers than this make figures unreadable; the first by name are shown."""

ORACLE = "oracle"
"""The stage trained on target labels; a reference, not a result."""

NO_ADAPTATION = "no-adaptation"
"""The stage trained on source images as they are."""


@dataclass(frozen=True)
class Dropped:
    """A target case that a round did not learn from.

    Attributes:
        round: counted from 1.
        case: its scan, on the common grid.
        why: in words.
        labels: reads what was predicted there, uint8 ``(I, J, K)``.
    """

    round: int
    case: Case
    why: str
    labels: Callable[[], LabelArray]


@dataclass(frozen=True)
class Tried:
    """A translator that was trained several times.

    Attributes:
        name: of its step.
        rows: what is known of each try, see ``tries.csv``.
        cohorts: the translations of each try; None of one that failed.
    """

    name: str
    rows: Sequence[Mapping[str, str | float]]
    cohorts: Sequence[Cohort | None]


@dataclass(frozen=True)
class Copies:
    """What a stage learned from that had other copies than the stage before.

    Attributes:
        stage: in words.
        made: the copies.
        originals: the images it learned from beside them; None is all.
    """

    stage: str
    made: Cohort
    originals: Cohort | None = None


@dataclass(frozen=True)
class ReportContent:
    """Everything the page shows; sequences and mappings may be empty.

    Attributes:
        title: title of the recipe.
        recipe: the locked recipe as TOML text.
        facts: what ran where, name -> value (version, machine, device, seed, wall time).
        classes: class name -> label in cohorts.
        file_values: class name -> its values in predicted and reference label maps.
        structure: the class whose appearance the report follows.
        scores: of all splits, stages and classes.
        source: preprocessed source images with labels, in [0, 1].
        target: preprocessed target images in [0, 1].
        translated: (step, cohort) in the order of the steps, with the cases of `source`.
        copies: of every stage that learned from other ones than the stage before, named
            ``{original}+{suffix}``.
        rounds: the pseudo-labeled target cohort of each round, oldest first.
        panels: (caption, PNG) that plugins saved.
        predictions: (stage, case -> predicted label map) of the validation split, native grid.
        references: case -> hidden label map, native grid.
        images: case -> validation image, native grid.
        timings: (step, seconds) in the order they ran.
        warnings: what was not as it should be, a line each.
        notes: (step, lines) that plugins logged about their results.
        intake: how scans and references are read.
        series: which series of folders of DICOM files.
        ledger: what was noted of each target case in each round, see ``ledger.csv``.
        dropped: those of them that were not learned from.
        survival: of each structure of each translation.
        trainings: (step, name -> curve) of the steps that noted numbers as they trained.
        tries: of the translators that were trained several times.
    """

    title: str
    recipe: str
    facts: Mapping[str, str]
    classes: Mapping[str, int]
    file_values: Mapping[str, Sequence[int]]
    structure: str
    scores: Sequence[Score]
    source: Cohort
    target: Cohort
    translated: Sequence[tuple[str, Cohort]]
    rounds: Sequence[Cohort]
    panels: Sequence[tuple[str, Path]]
    predictions: Sequence[tuple[str, Mapping[str, Path]]]
    references: Mapping[str, Path]
    images: Mapping[str, Path]
    timings: Sequence[tuple[str, float]]
    warnings: Sequence[str] = ()
    notes: Sequence[tuple[str, Sequence[str]]] = ()
    intake: Intake = field(default_factory=Intake)
    series: str = ""
    ledger: Sequence[Mapping[str, str | float]] = ()
    dropped: Sequence[Dropped] = ()
    survival: Sequence[Row] = ()
    trainings: Sequence[tuple[str, Mapping[str, Curve]]] = ()
    copies: Sequence[Copies] = ()
    tries: Sequence[Tried] = ()

    @property
    def label(self) -> int:
        """The label of `structure`."""
        return self.classes[self.structure]

    @cached_property
    def all_centers(self) -> list[str]:
        """Every center that occurs, by name."""
        cases = self.source.cases + self.target.cases
        return sorted({case.center for case in cases} | {item.center for item in self.scores})

    @property
    def centers(self) -> list[str]:
        """The centers that are shown."""
        return self.all_centers[:MAX_CENTERS]

    @property
    def training(self) -> tuple[str, Cohort]:
        """The labeled images a segmenter learns from: the last translation, or the source."""
        return self.translated[-1] if self.translated else ("source", self.source)

    @property
    def adapted(self) -> str | None:
        """The last stage that is a result of the method."""
        scored = [item.stage for item in self.scores]
        stages = [stage for stage, _ in self.predictions] or scored
        return next((s for s in reversed(stages) if s not in (ORACLE, NO_ADAPTATION)), None)


def spread(items: Sequence[ItemT], limit: int) -> list[ItemT]:
    """At most ``limit`` items, evenly spaced, first and last included."""
    if len(items) <= limit:
        return list(items)
    if limit < 2:
        return list(items[len(items) // 2 :][:limit])
    return [items[i * (len(items) - 1) // (limit - 1)] for i in range(limit)]


def spread_cases(cohort: Cohort, centers: Sequence[str], limit: int) -> list[Case]:
    """At most ``limit`` cases of the centers, as many from each as there are."""
    share = max(1, limit // max(1, len(centers)))
    return [
        case
        for center in centers
        for case in spread([c for c in cohort.cases if c.center == center], share)
    ]
