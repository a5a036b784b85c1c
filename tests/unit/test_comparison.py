"""Variants and seeds side by side: places, means, spread, tests, files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from scored import scored
from sheets import rows_of

from crossmod.console import comparison_tables
from crossmod.report import write_comparison
from crossmod.scores.comparison import (
    Comparison,
    Sizes,
    Trial,
    compare_trials,
    row_sheet,
    write_differences,
    write_rows,
)
from crossmod.scores.metrics import Score
from crossmod.scores.sheets import latex

SIZES = Sizes(100, 1000)
VOLUMES = (50.0, 500.0, 5000.0, 60.0, 70.0, 80.0)


def score(stage: str, case: int, dice: float) -> Score:
    numbers = (dice, 10 * (1 - dice), 1.0, 0.5, 0.0, VOLUMES[case])
    return scored("validation", stage, f"case-{case}", "ldn", "tumor", *numbers)


def scores(stage: str, dice: float) -> list[Score]:
    """Six cases that lie a little apart around a mean."""
    return [score(stage, case, dice + 0.01 * (case - 2.5)) for case in range(6)]


def trial(variant: str, seed: int, **dice: float) -> Trial:
    """Scores by stage; `augmented` is where self-training starts from."""
    rows = [row for stage, mean in dice.items() for row in scores(stage.replace("_", "-"), mean)]
    return Trial(variant, seed, "augmented", rows)


TRIALS = [
    trial("a", 1, translated=0.3, augmented=0.50, round_1=0.60),
    trial("a", 2, translated=0.3, augmented=0.60, round_1=0.70),
    trial("b", 1, oracle=0.9, augmented=0.40),
    trial("b", 2, oracle=0.8, translated=0.1),
    trial("failed", 1, translated=0.1),
    trial("failed", 2, translated=0.1),
]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare_trials(TRIALS, SIZES)


def test_rows_are_in_the_order_of_the_recipe(comparison: Comparison) -> None:
    assert [(row.label, row.round, row.seeds, row.runs) for row in comparison.rows] == [
        ("oracle", None, 2, 2),
        ("a", 0, 2, 2),
        ("a", 1, 2, 2),
        ("b", 0, 1, 2),
        ("failed", 0, 0, 2),
    ]


def test_means_spread_and_sizes(comparison: Comparison) -> None:
    oracle, first, *_ = comparison.rows
    assert oracle.spreads["dice"] == pytest.approx((0.85, math.sqrt(0.5) * 0.1))
    assert first.spreads["dice"] == pytest.approx((0.55, math.sqrt(0.5) * 0.1))
    assert first.dice_seeds == pytest.approx([0.5, 0.6])
    assert first.spreads["assd_mm"][0] == pytest.approx(4.5)
    assert first.dice_cases_sd == pytest.approx(np.std(0.01 * np.arange(6), ddof=1))
    offsets = {"small": (-2.5 + 0.5 + 1.5 + 2.5) / 4, "medium": -1.5, "large": -0.5}
    assert first.by_size == pytest.approx({k: 0.55 + 0.01 * v for k, v in offsets.items()})
    failed = comparison.rows[-1]
    assert math.isnan(failed.spreads["dice"][0])
    assert failed.cases == 0


def test_how_far_a_variant_has_gone_from_one_reference_to_the_other() -> None:
    trials = [
        trial("a", 1, oracle=0.8, no_adaptation=0.2, augmented=0.50, round_1=0.65),
        trial("b", 1, augmented=0.14),
    ]
    rows = compare_trials(trials, SIZES)
    gaps = {(row.label, row.round): row.gap_closed for row in rows.rows}
    assert gaps["a", 0] == pytest.approx(0.5)
    assert gaps["a", 1] == pytest.approx(0.75)
    assert gaps["b", 0] == pytest.approx(-0.1)
    assert math.isnan(gaps["oracle", None])
    assert "gap closed" in row_sheet(rows, "tumor").columns
    own = [replace(trials[0], own_references=True), replace(trials[1], own_references=True)]
    found = {(row.label, row.round): row.gap_closed for row in compare_trials(own, SIZES).rows}
    assert found["a", 0] == pytest.approx(0.5)
    assert math.isnan(found["b", 0])


def test_a_worse_oracle_leaves_no_gap() -> None:
    rows = compare_trials([trial("a", 1, oracle=0.2, no_adaptation=0.3, augmented=0.4)], SIZES).rows
    assert all(math.isnan(row.gap_closed) for row in rows)


def test_the_worst_cases_are_counted_over_all_seeds(comparison: Comparison) -> None:
    [_, first, *_] = comparison.rows
    values = [mean + 0.01 * (case - 2.5) for mean in (0.5, 0.6) for case in range(6)]
    assert first.dice_p5 == pytest.approx(np.percentile(values, 5))
    assert first.dice_below_half == pytest.approx(3 / 12)
    assert "gap closed" not in row_sheet(comparison, "tumor").columns


def test_variants_are_compared_over_the_seeds_they_share(comparison: Comparison) -> None:
    [versus] = [row.versus for row in comparison.rows if row.label == "b"]
    assert versus is not None
    assert (versus.first, versus.second, versus.rounds) == ("a", "b", (0, 0))
    assert versus.paired.mean_difference == pytest.approx(0.40 - 0.50)  # seed 1 alone
    rounds = [d for d in comparison.differences if d.first == d.second]
    assert [(d.first, d.rounds) for d in rounds] == [("a", (0, 1))]
    assert rounds[0].paired.mean_difference == pytest.approx(0.1)


def test_p_values_are_those_of_scipy_corrected_within_their_family() -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.random(6) for name in "abc"}
    trials = [
        Trial(name, 1, "augmented", [score("augmented", i, v) for i, v in enumerate(row)])
        for name, row in values.items()
    ]
    found = compare_trials(trials, SIZES).differences
    assert [(d.first, d.second) for d in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for difference in found:
        pair = values[difference.second], values[difference.first]
        assert difference.paired.t_p == pytest.approx(stats.ttest_rel(*pair).pvalue)
        assert difference.paired.wilcoxon_p == pytest.approx(stats.wilcoxon(*pair).pvalue)
    smallest = min(found, key=lambda d: d.paired.t_p)
    assert smallest.t_holm == pytest.approx(min(1, 3 * smallest.paired.t_p))


def test_everything_is_written(comparison: Comparison, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", comparison)
    rows = rows_of(tmp_path / "rows.csv")
    assert [row["variant"] for row in rows] == ["oracle", "a", "a", "b", "failed"]
    assert float(rows[1]["dice_mean"]) == comparison.rows[1].spreads["dice"][0]
    assert rows[4]["dice_mean"] == ""
    write_differences(tmp_path / "differences.csv", comparison)
    assert len((tmp_path / "differences.csv").read_text().splitlines()) == 4
    text = latex(row_sheet(comparison, "tumor"))
    assert r"a & 0 & 0.550 $\pm$ 0.071 &" in text
    assert r" & 1 & \textbf{0.650 $\pm$ 0.071} &" in text  # the oracle does not compete
    assert text.count(" & ") == 6 * 8  # header and five rows, nine columns
    links = {"a-seed-1": "a-seed-1/report.html"}
    write_comparison(tmp_path / "page.html", comparison, "T & <b>", links)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "T &amp; &lt;b&gt;" in page
    assert "0 <small>of 2</small>" in page
    assert 'href="a-seed-1/report.html"' in page


def test_without_scores_there_is_nothing_to_compare(tmp_path: Path) -> None:
    empty = compare_trials([Trial("a", 1, "augmented", [])], SIZES)
    assert empty.rows == []
    write_comparison(tmp_path / "page.html", empty, "t", {})
    assert "Nothing to compare" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_m05_a_comparison_without_differences_or_numbers_says_so(tmp_path: Path) -> None:
    nothing = [replace(row, measures={}) for row in scores("augmented", 0.5)]
    same = [trial("a", 1, augmented=0.5), trial("b", 1, augmented=0.5)]
    one = [replace(found, scores=found.scores[:1]) for found in same]
    unknown = [Trial(name, 1, "augmented", nothing) for name in "ab"]
    for trials, why in ((same, "no differences"), (one, "one case"), (unknown, "no cases")):
        found = compare_trials(trials, SIZES)
        write_comparison(tmp_path / "page.html", found, "t", {})
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert (
            page.count(f"<td>n/a ({why})</td>") == 2 * 2
        )  # beside the row, and in the list of tests
        with (screen := Console(width=200)).capture() as shown:
            screen.print(*comparison_tables(found))
        assert f"n/a ({why})" in shown.get()
        assert "nan" not in page + shown.get()
