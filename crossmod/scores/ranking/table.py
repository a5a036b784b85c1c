"""Scores of teams as a table, and the CSV it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.errors import DataError
from crossmod.files.tables import read_csv
from crossmod.scores.table import Metric, metrics, penalties

FloatTable = NDArray[np.float64]

MAX_NAMED = 10
"""Missing rows that a message names; it counts the rest."""


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
            DataError: there is no such column.
        """
        if metric not in self.metrics:
            raise DataError(f"no metric is called '{metric}'", allowed=", ".join(self.metrics))
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
    """Structure and metric of ``{structure}_{metric}``; "" and None where it is no such column."""
    for metric in sorted(ranking_metrics(), key=lambda one: -len(one.name)):
        if column.lower().endswith(f"_{metric.name}"):
            return column[: -len(metric.name) - 1], metric
    return "", None


def read_table(path: Path) -> ScoreTable:
    """Read a CSV with the columns ``Case``, ``Team`` and one or more ``{structure}_{metric}``.

    Raises:
        DataError: it is no CSV in UTF-8, columns are missing, unknown or there twice, a cell is not
            a finite number, a row comes twice, a team lacks a case, or there are fewer than two
            teams.
    """
    rows: dict[tuple[str, str], list[float]] = {}
    lines = read_csv(path)
    _, header = next(lines, ("", []))
    metrics = _metrics(header, str(path))
    for where, row in lines:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"has {len(row)} cells under {len(header)} columns", where=where)
        cells = dict(zip(header, row, strict=True))
        key = cells["Case"], cells["Team"]
        if key in rows:
            raise DataError(f"is a second row for {key[0]} of {key[1]}", where=where)
        rows[key] = [_number(cells, name, where) for name in metrics]
    cases = tuple(sorted({case for case, _ in rows}))
    teams = tuple(sorted({team for _, team in rows}))
    _check_complete(rows, cases, teams, str(path))
    values = np.array([[rows[case, team] for team in teams] for case in cases])
    return ScoreTable(teams, cases, metrics, np.moveaxis(values, 2, 0))


def _metrics(header: Sequence[str], where: str) -> tuple[str, ...]:
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
        raise DataError("has no column of a metric", where=where, allowed=allowed)
    if len(set(header)) < len(header):
        raise DataError(f"has a column twice: {','.join(header)}", where=where)
    return tuple(others)


def _number(cells: Mapping[str, str], name: str, where: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{name} is '{cells[name]}'",
            where=where,
            allowed="a finite number with a decimal point",
            fix="give a case without prediction the values of a missing structure:"
            f" {penalties(ranking_metrics())}",
        )
    return value


def _check_complete(
    rows: Mapping[tuple[str, str], Sequence[float]],
    cases: Sequence[str],
    teams: Sequence[str],
    where: str,
) -> None:
    if len(teams) < 2:
        raise DataError(f"has {len(teams)} teams", where=where, allowed="two or more")
    missing = [
        f"{case} of {team}" for team, case in product(teams, cases) if (case, team) not in rows
    ]
    if missing:
        rest = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise DataError(
            f"lacks {len(missing)} rows: {', '.join(missing[:MAX_NAMED])}{rest}",
            where=where,
            fix="every team needs a row for every case",
        )
