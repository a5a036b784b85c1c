"""Finished runs of any recipes side by side, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import tomlkit
from scored import scored
from sheets import rows_of

from crossmod.errors import DataError
from crossmod.model.facts import Origin, RunFacts, write_facts
from crossmod.run.compare import compare
from crossmod.scores.metrics import Score, write_scores

ORIGIN = Origin(embedded=False, data={}, crossmod="0", libraries={})
CASES = [f"case-{i}" for i in range(8)]


def score(
    case: str, dice: float, stage: str = "translated", structure: str = "tumor",
    split: str = "validation", volume: float = 500.0,
) -> Score:  # fmt: skip
    return scored(split, stage, case, "a", structure, dice, 1.0, 2.0, 0.9, 0.0, volume)


def dices(mean: float, cases: Sequence[str] = CASES, stage: str = "translated") -> list[Score]:
    return [score(case, mean + 0.001 * i * i, stage) for i, case in enumerate(cases)]


def finished(
    folder: Path, scores: Sequence[Score], *, seed: int = 0, digest: str = "", **recipe: object
) -> Path:
    folder.mkdir(parents=True)
    write_scores(folder / "metrics.csv", scores)
    references = {"validation": dict.fromkeys(CASES, digest)} if digest else {}
    write_facts(folder / "run.json", RunFacts(origin=ORIGIN, stages={}, references=references))
    tables = {"title": folder.name, "seed": seed, "translate": {"a": {"use": "x"}}, **recipe}
    (folder / "recipe.lock.toml").write_text(tomlkit.dumps(tables), encoding="utf-8")
    return folder


def test_runs_of_different_recipes(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", [*dices(0.5), *dices(0.2, stage="oracle")])
    later = [score(case, 0.7 + 0.01 * i) for i, case in enumerate(CASES[:6])]
    b = finished(
        tmp_path / "b",
        [*later, *dices(0.8, CASES[:6], "augmented"), *dices(0.9, CASES[:6], "round-1")],
        seed=3,
        augment={"x": {"use": "y"}},
        evaluate={"size_limits_mm3": [100, 400]},
    )
    done = compare({"first": [a], "second": [b]}, tmp_path / "out")
    rows = [(row.label, row.round, row.cases) for row in done.comparison.rows]
    assert rows == [
        ("first: oracle", None, 6),
        ("first", 0, 6),
        ("second", 0, 6),
        ("second", 1, 6),
    ]
    start, last = done.comparison.of("tumor")[2:]
    assert start.versus is not None
    assert start.versus.rounds == (0, 0)
    assert last.versus is not None
    assert last.versus.rounds == (0, 1)  # the first has no other
    assert last.versus.paired.mean_difference == pytest.approx(0.4)
    assert "second (seed 3) lacks 2 of 8 cases: case-6, case-7" in done.remarks
    assert any("size_limits" in remark for remark in done.remarks)
    tests = rows_of(tmp_path / "out" / "differences.csv")
    assert [(row["first_round"], row["second_round"]) for row in tests] == [
        ("0", "0"), ("0", "1"), ("0", "1"),
    ]  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "first and second" in page
    assert "lacks 2 of 8 cases" in page
    assert 'href="../a/report.html"' in page
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"comparison.md", "comparison.tex", "comparison.csv", "figures"} <= names
    again = compare({"first": [a], "second": [b]}, tmp_path / "out")
    assert len(again.comparison.differences) == len(done.comparison.differences)


def test_seeds_of_a_method_and_variants_of_a_recipe(tmp_path: Path) -> None:
    seeds = [finished(tmp_path / f"s{seed}", dices(0.5), seed=seed) for seed in (1, 2)]
    finished(tmp_path / "ablation" / "none-seed-1", dices(0.6), seed=1)
    finished(tmp_path / "ablation" / "none-seed-2", dices(0.6), seed=2)
    finished(tmp_path / "ablation" / "both-seed-1", dices(0.7), seed=1)
    (tmp_path / "ablation" / "03-score").mkdir()
    write_scores(tmp_path / "ablation" / "03-score" / "metrics.csv", dices(0.1))
    done = compare({"ours": seeds, "ab": [tmp_path / "ablation"]})
    assert [(row.label, row.seeds) for row in done.comparison.rows] == [
        ("ours", 2), ("ab/both", 1), ("ab/none", 2),
    ]  # fmt: skip
    assert not done.remarks
    alone = compare({"ab": [tmp_path / "ablation"]}).comparison
    assert [row.label for row in alone.rows] == ["both", "none"]


def test_runs_without_a_common_seed_are_compared(tmp_path: Path) -> None:
    runs = {f"m{seed}": [finished(tmp_path / f"{seed}", dices(0.5 + seed / 10), seed=seed)]
            for seed in (1, 2)}  # fmt: skip
    [test] = compare(runs).comparison.differences
    assert test.paired.cases == len(CASES)
    assert test.paired.mean_difference == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (dices(0.5, ["x", "y"]), r"no case in common:\na \(seed 0\): case-0, .* and 3 more\nb"),
        ([score(case, 0.5, structure="lung") for case in CASES], "different classes:\na.*: tumor"),
        ([score(case, 0.5, volume=501) for case in CASES], "different references:\ncase case-0, "),
        ([score(case, 0.5, split="target") for case in CASES], "no split was scored by all"),
        ([score(case, 50.0) for case in CASES], r"csv:2: dice of case case-0, .* is 50: outside"),
        ([], "has no scores"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, scores: list[Score], said: str) -> None:
    a, b = finished(tmp_path / "a", dices(0.5)), finished(tmp_path / "b", scores)
    with pytest.raises(DataError, match=said):
        compare({"a": [a], "b": [b]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_label_maps_of_the_same_volume_are_refused(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", dices(0.5), digest="1" * 64)
    b = finished(tmp_path / "b", dices(0.5), digest="2" * 64)
    old = finished(tmp_path / "old", dices(0.5))
    with pytest.raises(DataError, match=r"case case-0: other label maps for a .* than for b"):
        compare({"a": [a], "b": [b]})
    assert compare({"a": [a], "old": [old]}).comparison.rows


def test_folders_that_are_not_finished_runs(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", dices(0.5))
    (tmp_path / "begun").mkdir()
    with pytest.raises(DataError, match="begun: is not a finished run"):
        compare({"a": [a], "b": [tmp_path / "begun"]})
    with pytest.raises(DataError, match="runs to compare: a"):
        compare({"a": [a]})
    with pytest.raises(DataError, match="both 'a' with seed 0"):
        compare({"a": [a, a], "b": [a]})
    with pytest.raises(DataError, match="would write into what the command reads"):
        compare({"a": [a], "b": [a]}, a / "out")
    (a / "run.json").unlink()
    with pytest.raises(DataError, match=r"lacks run\.json"):
        compare({"a": [a], "b": [a]})
