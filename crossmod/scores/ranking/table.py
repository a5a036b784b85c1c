"""Scores of teams as a table, and the CSV it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.errors import DataError, itemized, listed
from crossmod.files.tables import read_csv
from crossmod.scores.table import Metric, metrics, penalties

FloatTable = NDArray[np.float64]

MAX_NAMED = 10
"""Missing rows that a message names; it counts the rest."""

Values = Mapping[tuple[str, str], Sequence[float]]
"""(Case, team) -> a value for each column."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """What every team reached in every case.

    Attributes:
        teams: names, sorted.
        cases: names, sorted.
        metrics: column names ``{structure}_{metric}``, in the order of the file.
        values: ``(metrics, cases, teams)``, finite.
    """

    teams: tuple[str, ...]
    cases: tuple[str, ...]
    metrics: tuple[str, ...]
    values: FloatTable

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that metrics are of, in the order of the file."""
        return tuple(dict.fromkeys(map(structure_of, self.metrics)))

    def of(self, metric: str) -> FloatTable:
        """One metric, ``(cases, teams)``.

        Raises:
            DataError: the table lacks this column.
        """
        if metric not in self.metrics:
            raise DataError(f"unknown metric '{metric}'", allowed=", ".join(self.metrics))
        return np.asarray(self.values[self.metrics.index(metric)])


def structure_of(column: str) -> str:
    """The structure a column is of."""
    return _parts(column)[0]


def higher_is_better(column: str) -> bool:
    """Whether high values of a column are good."""
    metric = _parts(column)[1]
    return metric is not None and metric.better == "higher"


def ranking_metrics() -> list[Metric]:
    """The metrics that a column can be of."""
    return [metric for metric in metrics() if metric.better]


def _parts(column: str) -> tuple[str, Metric | None]:
    """Structure and metric of ``{structure}_{metric}``; "" and None of any other column."""
    for metric in sorted(ranking_metrics(), key=lambda one: -len(one.name)):
        if column.lower().endswith(f"_{metric.name}"):
            return column[: -len(metric.name) - 1], metric
    return "", None


def read_table(path: Path) -> ScoreTable:
    """Read a CSV with the columns ``Case``, ``Team`` and one or more ``{structure}_{metric}``.

    Raises:
        DataError: the file is not CSV in UTF-8; columns are missing, unknown or repeated; cells are
            not finite numbers in the range of their metric; a row is repeated or lacks a name; a
            team lacks a case; or the file has fewer than two teams.
    """
    rows: dict[tuple[str, str], list[float]] = {}
    problems: list[str] = []
    lines = read_csv(path)
    _, header = next(lines, ("", []))
    columns = _columns(header, str(path))
    for where, row in lines:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"has {len(row)} cells under {len(header)} columns", where=where)
        cells = dict(zip(header, row, strict=True))
        key = cells["Case"].strip(), cells["Team"].strip()
        if not all(key):
            raise DataError("names no case or no team", where=where, allowed="both in every row")
        if key in rows:
            raise DataError(f"repeats the row of team {key[1]}, case {key[0]}", where=where)
        rows[key] = [_number(cells, name, where) for name in columns]
        faults = map(_fault, columns, rows[key])
        problems += [
            f"{where}: {name} of team {key[1]}, case {key[0]} is {cells[name]}: {fault}"
            for name, fault in zip(columns, faults, strict=True)
            if fault
        ]
    if problems:
        raise DataError(itemized("impossible values:", problems))
    return table_of(rows, columns, str(path))


def table_of(rows: Values, columns: Sequence[str], where: str) -> ScoreTable:
    """A table from values.

    Args:
        rows: a value for each column; they are finite.
        columns: their names.
        where: what messages name.

    Raises:
        DataError: a team lacks a case, or there are fewer than two teams.
    """
    cases = tuple(sorted({case for case, _ in rows}))
    teams = tuple(sorted({team for _, team in rows}))
    _check_complete(rows, cases, teams, where)
    values = np.array([[rows[case, team] for team in teams] for case in cases])
    return ScoreTable(teams, cases, tuple(columns), np.moveaxis(values, 2, 0))


def _columns(header: Sequence[str], where: str) -> tuple[str, ...]:
    others = [name for name in header if name not in ("Case", "Team")]
    names = ", ".join(metric.name for metric in ranking_metrics())
    allowed = f"Case, Team and {{structure}}_{{metric}}; metrics: {names}"
    wrong = [name for name in others if not structure_of(name)]
    if wrong:
        raise DataError(f"has unknown columns: {wrong}", where=where, allowed=allowed)
    missing = [name for name in ("Case", "Team") if name not in header]
    if missing:
        raise DataError(f"lacks the columns {missing}", where=where, allowed=allowed)
    if not others:
        raise DataError("lacks a column of a metric", where=where, allowed=allowed)
    if len(set(header)) < len(header):
        raise DataError(f"repeats a column: {','.join(header)}", where=where)
    return tuple(others)


def _number(cells: Mapping[str, str], name: str, where: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{name} of team {cells['Team']}, case {cells['Case']} is '{cells[name]}'",
            where=where,
            allowed="a finite number with a decimal point",
            fix="give a case without a prediction the values of a missing structure:"
            f" {penalties(ranking_metrics())}",
        )
    return value


def _fault(column: str, value: float) -> str:
    metric = _parts(column)[1]
    return metric.fault(value) if metric else ""


def _check_complete(rows: Values, cases: Sequence[str], teams: Sequence[str], where: str) -> None:
    if len(teams) < 2:
        raise DataError(
            f"teams: {len(teams)}",
            where=where,
            allowed="two or more",
            fix="name several files of crossmod evaluate: crossmod rank A=a.csv B=b.csv",
        )
    missing = [
        f"{case} of {team}" for team, case in product(teams, cases) if (case, team) not in rows
    ]
    if missing:
        raise DataError(
            f"rows missing: {listed(missing, MAX_NAMED)}",
            where=where,
            fix="give every team a row for every case",
        )
