"""Rank what `crossmod evaluate` and runs write: a file of scores for each team."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from crossmod.errors import DataError, itemized
from crossmod.scores.final import last_stage, references_differ, require_same_classes
from crossmod.scores.metrics import Score, is_score_file, read_scores
from crossmod.scores.ranking.table import ScoreTable, read_table, table_of
from crossmod.scores.table import Metric, reported


def read_teams(files: Mapping[str, Path]) -> tuple[ScoreTable, list[str]]:
    """One CSV with a column of teams, or a file of scores for each team.

    Args:
        files: name -> file; the name of a CSV with teams does not matter.

    Returns:
        The table, and remarks.

    Raises:
        DataError: as `read_table` and `read_evaluations`.
    """
    [first, *others] = files.values()
    if not others and not is_score_file(first):
        return read_table(first), []
    return read_evaluations(files)


def read_evaluations(files: Mapping[str, Path]) -> tuple[ScoreTable, list[str]]:
    """Put files of scores into one table, with the metrics that reports show: Dice and ASSD.

    Of a run, the last stage of the method counts, on the validation scans if they were scored. A
    case in which neither mask has a structure counts as perfect.

    Args:
        files: team -> file of `crossmod evaluate`, or metrics.csv of a run.

    Returns:
        The table, and remarks.

    Raises:
        DataError: a file does not hold scores or holds impossible ones; classes, cases or
            references of the teams differ; or there are fewer than two teams.
    """
    remarks: list[str] = []
    scores: dict[str, list[Score]] = {}
    for team, path in files.items():
        scores[team], told = last_stage(read_scores(path, check=True), str(path))
        remarks += [f"{team}: {told}"] if told else []
    structures = require_same_classes(scores, "the classes of the teams differ:")
    if problems := references_differ(scores):
        raise DataError(itemized("the references of the teams differ:", problems))
    metrics = [metric for metric in reported() if metric.better]
    perfect = 0
    rows: dict[tuple[str, str], list[float]] = {}
    for team, found in scores.items():
        by_place = {(score.case, score.structure): score for score in found}
        for case in dict.fromkeys(score.case for score in found):
            if lacking := [name for name in structures if (case, name) not in by_place]:
                what = f"case {case} lacks the class {lacking[0]}"
                raise DataError(what, where=str(files[team]), allowed="a row for every class")
            own = [by_place[case, structure] for structure in structures]
            perfect += sum(math.isnan(one.of(metrics[0])) for one in own)
            rows[case, team] = [_value(one, metric) for one in own for metric in metrics]
    if perfect:
        remarks.append(f"masks that are both empty: {perfect}; they count as perfect")
    columns = [f"{structure}_{metric.name}" for structure in structures for metric in metrics]
    return table_of(rows, columns, ", ".join(map(str, files.values()))), remarks


def _value(score: Score, metric: Metric) -> float:
    """What a score counts in a ranking."""
    value = score.of(metric)
    if not math.isnan(value):
        return value
    best = metric.range[metric.better == "higher"]
    if math.isinf(best):
        raise DataError(
            f"{metric.column} of case {score.case} is empty, and {metric.label} has no best value",
            fix="leave this case out of all files",
        )
    return best
