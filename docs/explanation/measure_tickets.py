"""How the label-free score of translators goes with true Dice, which takes no part in it.

    python docs/explanation/measure_tickets.py FOLDER [FOLDER ...]

Every run folder below that has translations and scores of the target scans counts, such as those of
recipes/many-translators.toml, run on cohorts of several seeds. For each cohort, the tables give
every translator, the rank correlation of each figure with Dice, and what choosing the best of three
would have brought.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from crossmod import Cohort
from crossmod.files.atomic import read_manifest
from crossmod.scores.tickets import FIGURES, Judgment, judge

NEAR = 0.02
"""A choice this close to the best of the draw is as good."""


@dataclass(frozen=True)
class Ticket:
    """A translator: its run, its cohort, what is known without labels, and the mean Dice."""

    name: str
    cohort: str
    judgment: Judgment
    dice: float


def tickets(folders: Sequence[Path], step: str, stage: str) -> Iterator[Ticket]:
    """Judge the translations of every run."""
    found = sorted(path.parent for folder in folders for path in folder.rglob("metrics.csv"))
    for folder in found:
        dice = mean_dice(folder, stage)
        parts = [next(folder.glob(f"*-{name}"), None) for name in ("prepare-source", step)]
        target = next(folder.glob("*-prepare-target"), None)
        if dice is None or target is None or None in parts:
            continue
        source, translated = (Cohort.load(part) for part in parts if part)
        judgment = judge(source, translated, Cohort.load(target))
        yield Ticket(folder.name, read_manifest(target)["key"], judgment, dice)


def mean_dice(folder: Path, stage: str) -> float | None:
    """Over target scans and classes; None if the stage was not scored."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["split"], r["stage"]) == ("target", stage)]
    known = [float(row["dice"]) for row in rows if row["dice"]]
    return float(np.mean(known)) if known else None


def correlations(found: Sequence[Ticket]) -> dict[str, float]:
    """Spearman's, of the score and of each figure over the translators that have it."""
    series = {"score": [(one.judgment.score, one.dice) for one in found]}
    for name in FIGURES:
        having = [one for one in found if name in one.judgment.figures]
        series[name] = [(one.judgment.figures[name], one.dice) for one in having]
    return {
        name: float(spearmanr(*zip(*pairs, strict=True)).statistic)
        for name, pairs in series.items()
        if len({figure for figure, _ in pairs}) > 1
    }


def draws(found: Sequence[Ticket]) -> tuple[int, int, float, float]:
    """Draws of three; how often the choice was near the best; its mean Dice, and a random one's."""
    each = list(combinations(found, 3))
    chosen = [max(three, key=lambda one: one.judgment.score) for three in each]
    best = [max(one.dice for one in three) for three in each]
    near = sum(c.dice >= top - NEAR for c, top in zip(chosen, best, strict=True))
    mean = float(np.mean([one.dice for one in chosen])) if each else float("nan")
    return len(each), near, mean, float(np.mean([one.dice for one in found]))


def show(found: Sequence[Ticket]) -> None:
    """Print what one cohort says."""
    heads = ("run", "Dice", "score", *FIGURES, "not sound because")
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    for one in sorted(found, key=lambda one: -one.dice):
        figures = [one.judgment.figures.get(name, float("nan")) for name in FIGURES]
        cells = [f"{value:.3f}" for value in (one.dice, one.judgment.score, *figures)]
        print("|", " | ".join([one.name, *cells, one.judgment.fault]), "|")
    for name, value in correlations(found).items():
        print(f"rank correlation of {name} with Dice: {value:.2f}")
    count, near, mean, chance = draws(found)
    print(f"{near} of {count} draws of three: the choice is within {NEAR} of the best")
    print(f"mean Dice of the choices {mean:.3f}, of all translators {chance:.3f}")


def main() -> None:
    """Print tables for every cohort."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--step", default="translate-gan", help="the translations to judge")
    parser.add_argument("--stage", default="translated", help="whose Dice to compare with")
    given = parser.parse_args()
    found = list(tickets(given.folders, given.step, given.stage))
    for cohort in dict.fromkeys(one.cohort for one in found):
        print(f"\ntarget cohort {cohort[:12]}\n")
        show([one for one in found if one.cohort == cohort])


if __name__ == "__main__":
    main()
