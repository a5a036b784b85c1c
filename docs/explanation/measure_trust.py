"""What ledgers of finished runs say of true Dice, which took no part in any choice.

    python docs/explanation/measure_trust.py FOLDER [FOLDER ...]

Every folder below with a ledger.csv and scores of the target scans counts. For every round, the
table gives the rank correlation of each figure with the Dice of the prediction that was judged,
and, where cases were dropped, how often a kept case has a higher Dice than a dropped one (AUC).
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

FEWEST = 3
REFERENCES = ("oracle", "no-adaptation")
Row = dict[str, str]


def rows_of(path: Path) -> list[Row]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def judged(folder: Path, structure: str) -> Iterator[tuple[int, list[Row], list[float]]]:
    """Round, rows of the ledger, and the Dice of each case by the stage that was judged."""
    scores = [row for row in rows_of(folder / "metrics.csv") if row["split"] == "target"]
    stages = [s for s in dict.fromkeys(row["stage"] for row in scores) if s not in REFERENCES]
    first = [stage for stage in stages if not stage.startswith("round-")][-1:] or ["no-adaptation"]
    dice = {
        (row["stage"], row["case"]): float(row["dice"] or "nan")
        for row in scores
        if row["class"] == structure
    }
    ledger = rows_of(folder / "ledger.csv")
    for number in sorted({int(row["round"]) for row in ledger}):
        stage = f"round-{number - 1}" if number > 1 else first[0]
        rows = [row for row in ledger if int(row["round"]) == number]
        known = [row for row in rows if not math.isnan(dice.get((stage, row["case"]), math.nan))]
        yield number, known, [dice[stage, row["case"]] for row in known]


def area(kept: Sequence[float], dropped: Sequence[float]) -> float:
    """How often a kept case is better than a dropped one; equal ones count half."""
    if not kept or not dropped:
        return math.nan
    ranks = rankdata([*kept, *dropped])[: len(kept)].sum()
    return float((ranks - len(kept) * (len(kept) + 1) / 2) / (len(kept) * len(dropped)))


def correlation(rows: Sequence[Row], name: str, dice: Sequence[float]) -> float:
    """Spearman's, over the cases that have the figure."""
    pairs = [(float(row[name]), one) for row, one in zip(rows, dice, strict=True) if row.get(name)]
    if len(pairs) < FEWEST or len({figure for figure, _ in pairs}) == 1:
        return math.nan
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def mean(values: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return float(np.mean(values)) if values else math.nan


def main() -> None:
    """Print a line for every run and round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--structure", default="tumor")
    given = parser.parse_args()
    figures = (f"agreement_{given.structure}", "confidence", "entropy", "change")
    heads = ("run", "round", "cases", "kept", "Dice kept", "Dice dropped", "AUC", *figures)
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    found = sorted(path.parent for folder in given.folders for path in folder.rglob("ledger.csv"))
    for folder in found:
        for number, rows, dice in judged(folder, given.structure):
            parts: dict[str, list[float]] = {"yes": [], "no": []}
            for row, one in zip(rows, dice, strict=True):
                parts[row["kept"]].append(one)
            kept, dropped = parts["yes"], parts["no"]
            cells = [folder.name, number, len(rows), len(kept)]
            values = [mean(kept), mean(dropped), area(kept, dropped)]
            values += [correlation(rows, name, dice) for name in figures]
            print("|", " | ".join([*map(str, cells), *(f"{v:.2f}" for v in values)]), "|")


if __name__ == "__main__":
    main()
