"""Rankings and tests between teams as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from pathlib import Path

from crossmod.files.outputs import Inputs, Outputs
from crossmod.files.tables import write_csv
from crossmod.scores.ranking.rule import Duel, Ranking
from crossmod.scores.ranking.sheets import duel_sheet, ranking_sheet
from crossmod.scores.sheets import FORMATS, write_sheets

RANKING_COLUMNS = ("ranking", "place", "team", "score", "low", "high", "first")
TEST_COLUMNS = (
    *("metric", "best", "team", "cases", "mean", "difference"),
    *("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm"),
)


def write_tables(
    folder: Path,
    inputs: Sequence[Path],
    rankings: Sequence[Ranking],
    tests: Mapping[str, Sequence[Duel]],
) -> None:
    """Write ranking.csv and tests.csv, and both as tables for people: ranking.md, ranking.tex.

    Raises:
        DataError: a file of such a name is an input, or was not written by `crossmod rank`.
        MachineError: a file cannot be written.
    """
    outputs = Outputs(folder, "crossmod rank", Inputs(tuple(inputs)))
    outputs.require(["ranking.csv", "tests.csv", *(f"ranking{ending}" for ending in FORMATS)])
    with outputs.file("ranking.csv") as file:
        _write_rankings(file, rankings)
    with outputs.file("tests.csv") as file:
        _write_tests(file, tests)
    sheets = [*map(ranking_sheet, rankings), *starmap(duel_sheet, tests.items())]
    write_sheets(outputs, "ranking", sheets)


def _write_rankings(path: Path, rankings: Iterable[Ranking]) -> None:
    """Write one line for each team of each ranking."""
    rows = (
        [ranking.name, row.place, row.team, row.score, row.low, row.high, row.first]
        for ranking in rankings
        for row in ranking.standings
    )
    write_csv(path, RANKING_COLUMNS, rows)


def _write_tests(path: Path, tests: Mapping[str, Sequence[Duel]]) -> None:
    """Write one line for each team and metric; the best team has no test."""
    rows = (
        [
            *(metric, duels[0].team, one.team, one.test.cases, one.mean),
            *(one.test.mean_difference, one.test.t_p, one.t_holm),
            *(one.test.wilcoxon_p, one.wilcoxon_holm),
        ]
        for metric, duels in tests.items()
        for one in duels
    )
    write_csv(path, TEST_COLUMNS, rows)
