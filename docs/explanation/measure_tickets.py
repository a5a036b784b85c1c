"""How the label-free score of translators goes with true Dice, which takes no part in it.

    python docs/explanation/measure_tickets.py FOLDER [FOLDER ...]

Every run folder below that has translations and scores of the target scans counts, such as those of
recipes/many-translators.toml, run on cohorts of several seeds. For each cohort, the tables give
every translator, the rank correlation of each figure with Dice, and what choosing the best of three
would have brought.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from crossmod import Cohort
from crossmod.files.atomic import read_manifest
from crossmod.scores.metrics import read_scores
from crossmod.scores.tickets import FIGURES, Judgment, Ticket, compared, judge

NEAR = 0.02
"""A choice this close to the best of the draw is as good."""


@dataclass(frozen=True)
class Drawn:
    """A translator: its run, its cohort, what is known without labels, and Dice by structure."""

    name: str
    cohort: str
    ticket: Ticket
    dices: Mapping[str, float]

    @property
    def dice(self) -> float:
        """The mean over structures."""
        return float(np.mean(list(self.dices.values())))


def drawn(folders: Sequence[Path], step: str, stage: str) -> Iterator[Drawn]:
    """Judge the translations of every run."""
    found = sorted(path.parent for folder in folders for path in folder.rglob("metrics.csv"))
    for folder in found:
        dices = mean_dices(folder, stage)
        parts = [next(folder.glob(f"*-{name}"), None) for name in ("prepare-source", step)]
        target = next(folder.glob("*-prepare-target"), None)
        if not dices or target is None or None in parts:
            continue
        source, translated = (Cohort.load(part) for part in parts if part)
        ticket = judge(source, translated, Cohort.load(target))
        yield Drawn(folder.name, read_manifest(target)["key"], ticket, dices)


def mean_dices(folder: Path, stage: str) -> dict[str, float]:
    """Structure -> mean over target scans; nothing if the stage was not scored."""
    known: dict[str, list[float]] = {}
    for one in read_scores(folder / "metrics.csv"):
        dice = one.measures.get("dice")
        if dice is not None and (one.split, one.stage) == ("target", stage):
            known.setdefault(one.structure, []).append(dice)
    return {name: float(np.mean(dices)) for name, dices in known.items()}


def correlations(known: Sequence[tuple[Judgment, float]]) -> dict[str, float]:
    """Spearman's, of the score and of each figure over the translators that have it."""
    series = {"score": [(judgment.score, dice) for judgment, dice in known]}
    for name in FIGURES:
        series[name] = [(j.figures[name], dice) for j, dice in known if name in j.figures]
    return {
        name: float(spearmanr(*zip(*pairs, strict=True)).statistic)
        for name, pairs in series.items()
        if len({figure for figure, _ in pairs}) > 1
    }


def chosen(few: Sequence[Drawn], judged: Sequence[Judgment]) -> Drawn:
    """The one that a run with these tries would use."""
    return few[int(np.argmax([judgment.score for judgment in judged]))]


def draws(found: Sequence[Drawn]) -> tuple[int, int, float, float]:
    """Draws of three, how often the choice is near the best, and the mean Dice of both."""
    each = list(combinations(found, 3))
    choices = [chosen(three, compared([one.ticket for one in three])).dice for three in each]
    best = [max(one.dice for one in three) for three in each]
    near = sum(choice >= top - NEAR for choice, top in zip(choices, best, strict=True))
    return len(each), near, float(np.mean(choices)), float(np.mean(best))


def show(found: Sequence[Drawn]) -> None:
    """Print what one cohort says."""
    judged = compared([one.ticket for one in found])
    heads = ("run", "Dice", "score", *FIGURES, "not sound because")
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    for one, judgment in sorted(zip(found, judged, strict=True), key=lambda row: -row[0].dice):
        figures = [judgment.figures.get(name, float("nan")) for name in FIGURES]
        cells = [f"{value:.3f}" for value in (one.dice, judgment.score, *figures)]
        print("|", " | ".join([one.name, *cells, judgment.fault]), "|")
    known = [(judgment, one.dice) for one, judgment in zip(found, judged, strict=True)]
    for name, value in correlations(known).items():
        print(f"rank correlation of {name} with Dice: {value:.2f}")
    for name in found[0].dices:
        own = correlations([(j, one.dices[name]) for j, one in zip(judged, found, strict=True)])
        print(f"rank correlation of score with Dice of {name}: {own['score']:.2f}")
    first = chosen(found, judged)
    print(f"of all: {first.name}, Dice {first.dice:.3f}")
    count, near, mean, best = draws(found)
    print(f"{near} of {count} draws of three: the choice is within {NEAR} of the best")
    chance = float(np.mean([one.dice for one in found]))
    print(f"mean Dice of the choices {mean:.3f}, of the best {best:.3f}, of all {chance:.3f}")


def main() -> None:
    """Print tables for every cohort."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--step", default="translate-gan", help="the translations to judge")
    parser.add_argument("--stage", default="translated", help="whose Dice to compare with")
    given = parser.parse_args()
    found = list(drawn(given.folders, given.step, given.stage))
    for cohort in dict.fromkeys(one.cohort for one in found):
        print(f"\ntarget cohort {cohort[:12]}\n")
        show([one for one in found if one.cohort == cohort])


if __name__ == "__main__":
    main()
