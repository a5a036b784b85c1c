from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from processor import SOON_S
from scipy import stats
from scored import scored

from crossmod.errors import DataError
from crossmod.scores.metrics import CASE_KEYS, write_scores
from crossmod.scores.ranking import (
    Ranking,
    ScoreTable,
    duels,
    rankings,
    read_table,
    read_teams,
)

OFFICIAL = Path(__file__).parents[3] / "shared" / "crossmoda2022" / "score_test.csv"

# Ranks in case 1: left_Dice x 1, y 1, z 3; left_ASSD 1, 2, 2; B_Dice 3, 2, 1.
# Ranks in case 2: left_Dice x 3, y 2, z 1; left_ASSD 1, 1, 1; B_Dice 1, 1, 1.
TIES = """\
Case,left_Dice,left_ASSD,B_Dice,Team
1,0.5,2,0.3,z
1,0.9,1,0.1,x
1,0.9,2,0.2,y
2,0.5,1,0,x
2,0.6,1,0,y
2,0.7,1,0,z
"""

SCORES_2022 = {
    "ne2e": 2.95,
    "MAI": 3.38,
    "LaTIM": 3.82,
    "Super_Polymerization": 4.25,
    "A*DA": 4.90,
    "fgh_365": 5.61,
    "SJTU_EIEE_2-426Lab": 5.88,
    "MBZUAI_VS": 7.54,
    "HUST_CBIB": 8.63,
    "skjp": 9.47,
    "gabybaldeon": 10.29,
    "Of_Men_and_Rabbits": 11.26,
}
VS_2022 = {
    "LaTIM": 3.66,
    "MAI": 3.86,
    "ne2e": 3.95,
    "Super_Polymerization": 4.27,
    "A*DA": 4.40,
    "SJTU_EIEE_2-426Lab": 5.25,
    "MBZUAI_VS": 5.81,
    "fgh_365": 6.89,
    "HUST_CBIB": 8.80,
    "gabybaldeon": 8.88,
    "skjp": 10.56,
    "Of_Men_and_Rabbits": 11.61,
}
COCHLEA_2022 = {
    "ne2e": 1.95,
    "MAI": 2.90,
    "LaTIM": 3.97,
    "Super_Polymerization": 4.24,
    "fgh_365": 4.33,
    "A*DA": 5.40,
    "SJTU_EIEE_2-426Lab": 6.51,
    "skjp": 8.38,
    "HUST_CBIB": 8.45,
    "MBZUAI_VS": 9.26,
    "Of_Men_and_Rabbits": 10.91,
    "gabybaldeon": 11.69,
}


def table(folder: Path, text: str = TIES) -> ScoreTable:
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path)


def scores(ranking: Ranking) -> dict[str, float]:
    return {row.team: row.score for row in ranking.standings}


def test_the_file_becomes_a_table(tmp_path: Path) -> None:
    result = table(tmp_path, f"\ufeff{TIES}\n")  # as spreadsheets write it
    assert result.teams == ("x", "y", "z")
    assert result.cases == ("1", "2")
    assert result.metrics == ("left_Dice", "left_ASSD", "B_Dice")
    assert result.structures == ("left", "B")
    assert result.of("B_Dice").tolist() == [[0.1, 0.2, 0.3], [0, 0, 0]]


def test_ranks_with_ties_by_hand(tmp_path: Path) -> None:
    everything, left, other = rankings(table(tmp_path))
    assert [r.name for r in (everything, left, other)] == ["all", "left", "B"]
    assert left.metrics == ("left_Dice", "left_ASSD")
    assert scores(everything) == pytest.approx({"y": 9 / 6, "z": 9 / 6, "x": 10 / 6})
    assert scores(left) == pytest.approx({"x": 6 / 4, "y": 6 / 4, "z": 7 / 4})
    assert scores(other) == pytest.approx({"z": 2 / 2, "y": 3 / 2, "x": 4 / 2})
    assert [(row.team, row.place) for row in everything.standings] == [("y", 1), ("z", 1), ("x", 3)]
    assert [(row.team, row.place) for row in left.standings] == [("x", 1), ("y", 1), ("z", 3)]


def test_the_bootstrap_draws_cases_with_replacement(tmp_path: Path) -> None:
    """Case 2 alone is drawn in a quarter of the samples: then all teams are equal by B_Dice."""
    _, left, other = rankings(table(tmp_path), samples=4000, seed=1)
    rows = {row.team: row for row in other.standings}
    assert rows["z"].first == 1
    assert rows["x"].first == rows["y"].first == pytest.approx(0.25, abs=0.03)
    assert (rows["x"].low, rows["x"].high) == (1, 3)
    assert (rows["z"].low, rows["z"].high) == (1, 1)
    assert other.stability == 1  # samples of case 2 alone have no order to compare
    # By the left metrics x wins case 1, z wins case 2, and x ties with y over both.
    shares = {row.team: row.first for row in left.standings}
    assert shares == pytest.approx({"x": 0.75, "y": 0.5, "z": 0.25}, abs=0.03)


def test_seeds_repeat_and_differ(tmp_path: Path) -> None:
    content = table(tmp_path)
    assert rankings(content, seed=3) == rankings(content, seed=3)
    assert rankings(content, seed=3) != rankings(content, seed=4)


def test_stability_is_the_mean_tau_of_scipy() -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 4, (2, 9, 5)).astype(float)
    content = ScoreTable(tuple("abcde"), tuple("123456789"), ("s_Dice", "s_ASSD"), values)
    (ranking,) = rankings(content, samples=200, seed=7)
    draws = np.random.default_rng(7).multinomial(9, np.full(9, 1 / 9), size=200)
    ranks = sum(stats.rankdata(v, method="min", axis=1) for v in (-values[0], values[1]))
    taus = [stats.kendalltau(ranks.sum(axis=0), draw @ ranks).statistic for draw in draws]
    assert ranking.stability == pytest.approx(np.mean(taus))
    assert 0 < ranking.stability < 1


def test_m01_a_missed_structure_ranks_below_every_outline(tmp_path: Path) -> None:
    text = "Case,Team,B_Dice,B_ASSD\n1,bad,0.01,90\n1,none,0,350\n2,bad,0.5,1\n2,none,0.5,1\n"
    [ranking] = rankings(table(tmp_path, text), samples=10)
    assert [(one.team, one.score) for one in ranking.standings] == [("bad", 1.0), ("none", 1.5)]
    gap = "Case,Team,B_Dice,B_ASSD\n1,bad,0.01,90\n1,none,,\n"
    with pytest.raises(DataError):
        table(tmp_path, gap)


def test_equal_teams_have_no_stability() -> None:
    values = np.ones((1, 3, 2))
    (ranking,) = rankings(ScoreTable(("a", "b"), ("1", "2", "3"), ("s_Dice",), values))
    assert math.isnan(ranking.stability)
    assert [(row.place, row.score, row.first) for row in ranking.standings] == [(1, 1, 1)] * 2


def test_teams_are_tested_against_the_best_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (2, 30, 3)) + np.array([0, 1, 0.9])
    content = ScoreTable(("a", "b", "c"), tuple(map(str, range(30))), ("s_Dice", "s_ASSD"), values)
    for metric, order in (("s_Dice", ["b", "c", "a"]), ("s_ASSD", ["a", "c", "b"])):
        best, *others = duels(content, metric)
        assert [best.team, *(duel.team for duel in others)] == order
        assert math.isnan(best.t_holm)
        columns = dict(zip("abc", content.of(metric).T, strict=True))
        plain = [stats.ttest_rel(columns[d.team], columns[best.team]).pvalue for d in others]
        assert [duel.test.t_p for duel in others] == pytest.approx(plain)
        low, high = sorted(plain)
        assert sorted(d.t_holm for d in others) == pytest.approx([2 * low, max(2 * low, high)])
        assert all(d.mean == pytest.approx(columns[d.team].mean()) for d in others)
    with pytest.raises(DataError, match=r"(?s)unknown metric 's_Dise'.*s_Dice, s_ASSD"):
        duels(content, "s_Dise")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("2,0.6,1,0,y\n", "", "csv: rows missing: 2 of y"),
        ("2,0.6,1,0,y\n", "2,0.6,1,0,y\n1,0,0,0,z\n", "csv:7: repeats the row of team z, case 1"),
        ("0.9,1,0.1,x", "0.9,oops,0.1,x", "csv:3: left_ASSD of team x, case 1 is 'oops'"),
        ("0.9,1,0.1,x", "0.9,,0.1,x", "csv:3: left_ASSD of team x, case 1 is ''"),
        ("0.9,1,0.1,x", "nan,1,0.1,x", "csv:3: left_Dice of team x, case 1 is 'nan'"),
        ("0.9,1,0.1,x", "inf,1,0.1,x", "csv:3: left_Dice of team x, case 1 is 'inf'"),
        ("0.9,1,0.1,x", "0.9,1,x", "csv:3: has 4 cells under 5 columns"),
        ("B_Dice", "B_Dise", r"csv: has unknown columns: \['B_Dise'\]"),
        ("B_Dice", "Dice", r"csv: has unknown columns: \['Dice'\]"),
        ("B_Dice", "left_Dice", "csv: repeats a column"),
        ("Team", "B_ASSD", r"csv: lacks the columns \['Team'\]"),
        (TIES, "Case,Team\n1,x\n", "csv: lacks a column of a metric"),
        (TIES, "", r"csv: lacks the columns \['Case', 'Team'\]"),
        (TIES, "Case,Team,a_Dice\n1,x,0\n2,x,0\n", "csv: teams: 1"),
        (TIES, "Case,Team,a_Dice\n", "csv: teams: 0"),
    ],
)
def test_files_that_cannot_be_ranked(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in TIES
    with pytest.raises(DataError, match=rf"scores\.{message}"):
        table(tmp_path, TIES.replace(before, after))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TIES.replace("z", "z" * 200_000, 1).encode(), "is not CSV: field larger than"),
        (TIES.replace("z", "\u00fc").encode("latin-1"), "is not UTF-8: byte 0xfc"),
    ],
)
def test_what_is_no_csv_in_utf8_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"scores\.csv:2: {said}"):
        read_table(tmp_path / "scores.csv")


def test_many_missing_rows_are_counted(tmp_path: Path) -> None:
    lines = [f"{case},x,0" for case in range(30)] + ["0,y,0"]
    with pytest.raises(DataError, match=r"rows missing: 1 of y, .* and 19 more"):
        table(tmp_path, "\n".join(["Case,Team,a_Dice", *lines]))


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the organizers' scores are not on this machine")
def test_the_ranking_of_crossmoda_2022() -> None:
    begin = time.process_time()
    content = read_table(OFFICIAL)
    everything, tumor, cochlea = rankings(content)
    tests = {name: duels(content, name) for name in content.metrics}
    assert time.process_time() - begin < SOON_S
    assert (len(content.cases), len(content.teams)) == (271, 12)
    for ranking, expected in (
        (everything, SCORES_2022),
        (tumor, VS_2022),
        (cochlea, COCHLEA_2022),
    ):
        assert [row.team for row in ranking.standings] == list(expected)
        assert [row.place for row in ranking.standings] == list(range(1, 13))
        assert scores(ranking) == pytest.approx(expected, abs=0.005)
    first = tests["VS_Dice"][0]
    second = next(duel for duel in tests["VS_Dice"] if duel.team == "MAI")
    assert (first.team, round(first.mean, 4)) == ("LaTIM", 0.8593)
    assert (round(second.test.t_p, 2), round(second.test.wilcoxon_p, 2)) == (0.12, 0.09)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("0.9,1,0.1,x", "90,1,0.1,x", "left_Dice of team x, case 1 is 90: .*a percentage"),
        ("0.9,1,0.1,x", "-0.8,1,0.1,x", "left_Dice of team x, case 1 is -0.8: outside 0 to 1$"),
        ("0.9,1,0.1,x", "0.9,-1,0.1,x", "left_ASSD of team x, case 1 is -1: below 0"),
        ("left_ASSD", "left_NSD", "left_NSD of team z, case 1 is 2: outside 0 to 1; a"),
    ],
)
def test_impossible_values_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"(?m)scores\.csv:\d: {message}"):
        table(tmp_path, TIES.replace(before, after))


def test_what_others_rounded_is_possible(tmp_path: Path) -> None:
    assert table(tmp_path, TIES.replace("0.9,1", "1.0000001,-1e-9")).teams == ("x", "y", "z")


def test_a_row_without_a_team_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="csv:3: names no case or no team"):
        table(tmp_path, TIES.replace("0.9,1,0.1,x", "0.9,1,0.1, "))


def evaluated(path: Path, dices: dict[str, float], *, volume: float = 500.0) -> Path:
    """Scores as `crossmod evaluate` writes them; no Dice: neither mask has the structure."""
    rows = [
        scored("", "", case, "", "tumor", dice, *(n + 0 * dice for n in (1, 2, 0.9, 0)), volume)
        for case, dice in dices.items()
    ]
    write_scores(path, rows, keys=CASE_KEYS)
    return path


def test_what_evaluate_writes_is_ranked(tmp_path: Path) -> None:
    files = {
        "good": evaluated(tmp_path / "a.csv", {"1": 0.9, "2": math.nan}),
        "bad": evaluated(tmp_path / "b.csv", {"1": 0.8, "2": 0.0}),
    }
    content, remarks = read_teams(files)
    assert content.metrics == ("tumor_dice", "tumor_assd")
    assert content.of("tumor_dice").tolist() == [[0.8, 0.9], [0.0, 1.0]]
    assert remarks == ["masks that are both empty: 1; they count as perfect"]
    assert [row.team for row in rankings(content)[0].standings] == ["good", "bad"]


def test_the_last_stage_of_a_run_is_ranked(tmp_path: Path) -> None:
    stages = {"oracle": 0.99, "translated": 0.5, "round-1": 0.7}
    rows = [
        scored(split, stage, "1", "", "tumor", dice, 1, 2, 0.9, 0, 500)
        for split in ("target", "validation")
        for stage, dice in stages.items()
    ]
    write_scores(tmp_path / "metrics.csv", rows)
    files = {"run": tmp_path / "metrics.csv", "b": evaluated(tmp_path / "b.csv", {"1": 0.6})}
    content, remarks = read_teams(files)
    assert content.of("tumor_dice").tolist() == [[0.6, 0.7]]
    assert remarks == ["run: stage round-1, validation scans"]


@pytest.mark.parametrize(
    ("dices", "volume", "said"),
    [
        ({"1": 0.9}, 501.0, "references of the teams differ:\ncase 1, class tumor: 500 mm"),
        ({"2": 0.9}, 500.0, "rows missing"),
        ({"1": 90.0}, 500.0, r"b\.csv:2: dice of case 1, class tumor is 90: .*a percentage"),
    ],
)
def test_evaluations_that_cannot_be_ranked(
    tmp_path: Path, dices: dict[str, float], volume: float, said: str
) -> None:
    first = evaluated(tmp_path / "a.csv", {"1": 0.8})
    second = evaluated(tmp_path / "b.csv", dices, volume=volume)
    with pytest.raises(DataError, match=said):
        read_teams({"a": first, "b": second})
    with pytest.raises(DataError, match=r"(?s)teams: 1.*crossmod rank A=a.csv"):
        read_teams({"a": first})
