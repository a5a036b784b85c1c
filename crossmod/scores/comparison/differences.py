"""Paired tests between variants and between rounds, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from crossmod.scores.metrics import Score, known
from crossmod.scores.statistics import Paired, holm, mean_and_sd, paired
from crossmod.scores.table import DICE, VOLUME, Metric


@dataclass
class Cell:
    """The scores of one structure, of one variant after one round.

    Attributes:
        structure: class name.
        label: variant or reference.
        round: round of self-training; None for a reference.
        seeds: seed -> case -> score.
    """

    structure: str
    label: str
    round: int | None
    seeds: dict[int, dict[str, Score]] = field(default_factory=dict)

    def add(self, seed: int, score: Score) -> None:
        """Take in the score of one case; a step shared by variants counts once."""
        self.seeds.setdefault(seed, {})[score.case] = score

    def by_case(self, metric: Metric, seeds: Sequence[int] | None = None) -> dict[str, float]:
        """Case -> mean over seeds."""
        chosen = [self.seeds[seed] for seed in seeds or self.seeds]
        cases = chosen[0] if chosen else ()
        return {
            case: float(np.mean([scores[case].of(metric) for scores in chosen])) for case in cases
        }

    def seed_means(self, metric: Metric) -> list[float]:
        """For every seed the mean over its cases that have the structure."""
        return [mean_and_sd(known(of.values(), metric))[0] for of in self.seeds.values()]

    def values(self, metric: Metric) -> list[float]:
        """The scores of all cases with all seeds, where there is one."""
        return [value for of in self.seeds.values() for value in known(of.values(), metric)]

    def volumes(self) -> dict[str, float]:
        """Case -> volume of the reference, mm3."""
        first: Mapping[str, Score] = next(iter(self.seeds.values()), {})
        return {case: score.of(VOLUME) for case, score in first.items()}


@dataclass(frozen=True)
class Difference:
    """A paired comparison of the Dice of two cells, each case averaged over the seeds of both.

    Runs that share no seed are averaged over their own.

    Attributes:
        structure: class name.
        first: a variant.
        second: another variant, or the same one after another round.
        rounds: the round of each.
        paired: difference (second minus first) and p-values.
        t_holm: p-value of the t-test, corrected over its family.
        wilcoxon_holm: p-value of Wilcoxon's test, corrected over its family.
    """

    structure: str
    first: str
    second: str
    rounds: tuple[int | None, int | None]
    paired: Paired
    t_holm: float
    wilcoxon_holm: float


def all_differences(cells: Sequence[Cell]) -> list[Difference]:
    """Every two variants after the same round and after their last ones; rounds against round 0.

    A family, over which Holm's correction goes, is all pairs of variants of one structure after one
    round, all pairs of one structure whose last rounds differ, or all rounds of one structure.
    """
    found: list[Difference] = []
    for structure in dict.fromkeys(cell.structure for cell in cells):
        own = [c for c in cells if c.structure == structure and c.round is not None and c.seeds]
        for number in sorted({cell.round for cell in own if cell.round is not None}):
            at_round = [cell for cell in own if cell.round == number]
            found += _family(list(combinations(at_round, 2)))
        lasts = {c.label: c for c in sorted(own, key=lambda c: c.round or 0)}
        ordered = [lasts[label] for label in dict.fromkeys(cell.label for cell in own)]
        pairs = combinations(ordered, 2)
        found += _family([pair for pair in pairs if pair[0].round != pair[1].round])
        starts = {cell.label: cell for cell in own if cell.round == 0}
        found += _family([(starts[c.label], c) for c in own if c.round and c.label in starts])
    return found


def _family(pairs: Sequence[tuple[Cell, Cell]]) -> list[Difference]:
    tests = [_test(first, second) for first, second in pairs]
    t_holm = holm([test.paired.t_p for test in tests])
    wilcoxon_holm = holm([test.paired.wilcoxon_p for test in tests])
    return [
        replace(test, t_holm=t, wilcoxon_holm=w)
        for test, t, w in zip(tests, t_holm, wilcoxon_holm, strict=True)
    ]


def _test(first: Cell, second: Cell) -> Difference:
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    before, after = first.by_case(DICE, seeds), second.by_case(DICE, seeds)
    cases = [case for case in after if case in before]
    result = paired([after[case] for case in cases], [before[case] for case in cases])
    rounds = (first.round, second.round)
    return Difference(first.structure, first.label, second.label, rounds, result, np.nan, np.nan)
