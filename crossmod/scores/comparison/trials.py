"""From the scores of many runs to one row for each variant and round of self-training."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crossmod.scores.comparison.differences import Cell, Difference, all_differences
from crossmod.scores.final import REFERENCES
from crossmod.scores.metrics import Score
from crossmod.scores.sizes import NAMES, Sizes
from crossmod.scores.statistics import mean_and_sd
from crossmod.scores.table import DICE, reported

ROUND = re.compile(r"round-(\d+)")


@dataclass(frozen=True)
class Trial:
    """One run: a variant with a seed.

    Attributes:
        variant: its name.
        seed: its seed.
        first_stage: the segmentation that self-training starts from, its round 0.
        scores: of one split.
        own_references: whether its oracle is another than those of other variants.
    """

    variant: str
    seed: int
    first_stage: str
    scores: Sequence[Score]
    own_references: bool = False

    def place(self, stage: str) -> tuple[str, int | None] | None:
        """(label, round) under which a stage is compared; None for one on the way to round 0."""
        if stage == self.first_stage:
            return self.variant, 0
        if stage in REFERENCES:
            return _reference(self.variant, stage) if self.own_references else stage, None
        later = ROUND.fullmatch(stage)
        return (self.variant, int(later[1])) if later else None


@dataclass(frozen=True)
class Row:
    """One structure as one variant outlines it after one round of self-training.

    Attributes:
        structure: class name.
        label: name of the variant, or "oracle" or "no-adaptation".
        round: rounds of self-training; None for a reference.
        seeds: how many runs reached this round.
        runs: how many there are.
        cases: cases with the structure.
        spreads: column of a metric that reports show -> mean over cases and seeds, and standard
            deviation over the seeds' means.
        dice_seeds: mean Dice over cases, for each seed.
        dice_cases_sd: standard deviation over cases, each case averaged over seeds.
        dice_p5: 5th percentile of Dice over cases and seeds.
        dice_below_half: share of cases and seeds with a Dice below 0.5.
        by_size: "small", "medium", "large" -> mean Dice; sizes without a case are missing.
        versus: the test against the first variant after the same round; of a last round that the
            first variant does not have, against its last one.
        gap_closed: share of the way from "no-adaptation" (0) to "oracle" (1) that the mean Dice
            has gone; NaN without both references, or if the oracle is not the better one.
    """

    structure: str
    label: str
    round: int | None
    seeds: int
    runs: int
    cases: int
    spreads: Mapping[str, tuple[float, float]]
    dice_seeds: Sequence[float]
    dice_cases_sd: float
    dice_p5: float
    dice_below_half: float
    by_size: Mapping[str, float]
    versus: Difference | None
    gap_closed: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """All rows and all tests of one split.

    Attributes:
        split: which scans.
        rows: structure by structure, variants in the order of the recipe, round by round.
        differences: every two variants after the same round, every round against round 0.
        sizes: what "small" and "large" mean.
    """

    split: str
    rows: Sequence[Row]
    differences: Sequence[Difference]
    sizes: Sizes

    @cached_property
    def structures(self) -> list[str]:
        """The class names, in the order of the rows."""
        return list(dict.fromkeys(row.structure for row in self.rows))

    @cached_property
    def size_names(self) -> list[str]:
        """The sizes that occur."""
        return [name for name in NAMES if any(name in row.by_size for row in self.rows)]

    def of(self, structure: str) -> list[Row]:
        """The rows of one structure."""
        return [row for row in self.rows if row.structure == structure]


def compare_trials(trials: Sequence[Trial], sizes: Sizes) -> Comparison:
    """Put runs of the same scans side by side.

    Args:
        trials: in the order of the recipe; scores of one split and the same cases.
        sizes: limits between small, medium and large lesions.
    """
    cells = _cells(trials)
    for structure in [cell.structure for cell in cells.values()]:
        for trial in trials:  # a failed translation leaves its variants without any score
            place = (structure, trial.variant, 0)
            cells.setdefault(place, Cell(*place))
    tests = all_differences(list(cells.values()))
    variants = list(dict.fromkeys(trial.variant for trial in trials))
    runs = {name: sum(trial.variant == name for trial in trials) for name in variants}
    own = [_reference(variant, stage) for variant in variants for stage in REFERENCES]
    references = [label for label in (*REFERENCES, *own) if label not in variants]
    ordered = sorted(
        cells.values(),
        key=lambda cell: (
            [*references, *variants].index(cell.label),
            -1 if cell.round is None else cell.round,
        ),
    )
    rows = [
        _row(cell, runs.get(cell.label, len(cell.seeds)), sizes, tests, variants[0])
        for structure in dict.fromkeys(cell.structure for cell in cells.values())
        for cell in ordered
        if cell.structure == structure
    ]
    split = next((score.split for trial in trials for score in trial.scores), "")
    return Comparison(split, _with_gaps(rows), tests, sizes)


def _with_gaps(rows: Sequence[Row]) -> list[Row]:
    """Place the mean Dice of each row between those of the references of its variant."""
    means = {(row.structure, row.label): row.spreads[DICE.column][0] for row in rows}

    def gap_closed(row: Row) -> float:
        shared = [means.get((row.structure, stage), math.nan) for stage in REFERENCES]
        own = [(row.structure, _reference(row.label, stage)) for stage in REFERENCES]
        oracle, nothing = map(means.get, own, shared)
        reached = row.spreads[DICE.column][0] - nothing
        return reached / (oracle - nothing) if oracle > nothing else math.nan

    return [row if row.round is None else replace(row, gap_closed=gap_closed(row)) for row in rows]


def _reference(variant: str, stage: str) -> str:
    return f"{variant}: {stage}"


def _cells(trials: Sequence[Trial]) -> dict[tuple[str, str, int | None], Cell]:
    """The scores of every structure, label and round, by seed and case."""
    cells: dict[tuple[str, str, int | None], Cell] = {}
    for trial in trials:
        for score in trial.scores:
            place = trial.place(score.stage)
            if place is None:
                continue
            cell = cells.setdefault((score.structure, *place), Cell(score.structure, *place))
            cell.add(trial.seed, score)
    return cells


def _row(cell: Cell, runs: int, sizes: Sizes, tests: Sequence[Difference], first: str) -> Row:
    dice = {case: value for case, value in cell.by_case(DICE).items() if not math.isnan(value)}
    volumes, all_dice = cell.volumes(), cell.values(DICE)
    groups: dict[str, list[float]] = {}
    for case, value in dice.items():
        groups.setdefault(sizes.name(volumes[case]), []).append(value)
    place = cell.structure, cell.label, cell.round
    versus = (  # those after the same round come first
        test
        for test in tests
        if (test.structure, test.second, test.rounds[1]) == place
        and test.first == first != test.second
    )
    return Row(
        cell.structure,
        cell.label,
        cell.round,
        len(cell.seeds),
        runs,
        len(dice),
        {m.column: mean_and_sd(cell.seed_means(m)) for m in reported()},
        cell.seed_means(DICE),
        mean_and_sd(list(dice.values()))[1],
        float(np.percentile(all_dice, 5)) if all_dice else math.nan,
        float(np.mean(np.less(all_dice, 0.5))) if all_dice else math.nan,
        {name: mean_and_sd(values)[0] for name, values in groups.items()},
        next(versus, None),
    )
