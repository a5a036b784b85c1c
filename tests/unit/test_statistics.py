import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossmod.scores.statistics import Paired, difference_text, holm, mean_and_sd, p_text, paired

NAN = math.nan


def test_both_tests_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(0.8, 0.1, 60)
    second = first - rng.normal(0.02, 0.05, 60)
    result = paired(first.tolist(), second.tolist())
    assert result.cases == 60
    assert result.mean_difference == pytest.approx((first - second).mean())
    assert result.t_p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert result.wilcoxon_p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert 0 < result.wilcoxon_p < 0.05


def test_small_samples_by_hand() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3), and all 3 signs agree in 2 of 8 ways.
    result = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert result.t_p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3), df=2))
    assert result.wilcoxon_p == pytest.approx(0.25)


def test_the_order_of_the_samples_is_the_sign() -> None:
    first, second = [0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.65, 0.2]
    there, back = paired(first, second), paired(second, first)
    assert there.mean_difference == pytest.approx(-back.mean_difference)
    assert there.mean_difference == pytest.approx(0.3375)
    assert there.t_p == pytest.approx(back.t_p)


def test_unknown_values_leave_with_their_partner() -> None:
    whole = paired([1.0, 2.0, 4.0], [0.5, 0.1, 0.2])
    assert paired([1.0, NAN, 2.0, 4.0, 7.0], [0.5, 9.0, 0.1, 0.2, NAN]) == whole


@pytest.mark.parametrize(
    ("first", "second", "expected", "why"),
    [
        ([], [], Paired(0, NAN, NAN, NAN), "no cases"),
        ([NAN], [1.0], Paired(0, NAN, NAN, NAN), "no cases"),
        ([NAN] * 9, [NAN] * 9, Paired(0, NAN, NAN, NAN), "no cases"),
        ([1.0], [0.5], Paired(1, 0.5, NAN, NAN), "one case"),
        ([1.0, NAN], [0.5, 1.0], Paired(1, 0.5, NAN, NAN), "one case"),
        ([1.0, 2.0], [1.0, 2.0], Paired(2, 0.0, NAN, NAN), "no differences"),
        ([0.0] * 20, [0.0] * 20, Paired(20, 0.0, NAN, NAN), "no differences"),
    ],
)
def test_m05_what_cannot_be_computed_is_not_available_for_a_reason(
    first: list[float], second: list[float], expected: Paired, why: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired(first, second)
        [p_value] = holm([found.wilcoxon_p])
    assert repr(found) == repr(expected)
    assert p_text(p_value, found) == f"n/a ({why})"


def test_numbers_as_tables_show_them() -> None:
    found = paired([1.0, 2.0, 4.0], [0.5, 0.1, 0.2])
    assert [p_text(p, found) for p in (0.25, 0.0009)] == ["0.250", "< 0.001"]
    assert [difference_text(d) for d in (0.1, -0.0204, NAN, -1e-9)] == [
        "+0.100",
        "-0.020",
        "n/a",
        "+0.000",
    ]


def test_equal_differences_have_no_t_test_but_a_sign() -> None:
    result = paired([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert math.isnan(result.t_p)
    assert p_text(result.t_p, result) == "n/a (equal differences)"
    assert result.wilcoxon_p == pytest.approx(2 / 2**6)


def test_cases_without_a_difference_do_not_change_wilcoxon() -> None:
    result = paired([1.0, 2.0, 3.0, 5.0, 5.0], [0.0, 0.0, 0.0, 5.0, 5.0])
    assert result.cases == 5
    assert result.wilcoxon_p == pytest.approx(0.25)


def test_samples_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.025], [0.03, 0.04, 0.04]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([NAN, 0.02, NAN, 0.01], [NAN, 0.02, NAN, 0.02]),
        ([NAN], [NAN]),
    ],
)
def test_holm_by_hand(given: list[float], expected: list[float]) -> None:
    assert holm(given) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    ordered = sorted(p_values)
    for level in (0.01, 0.05, 0.2):
        passed = 0
        while passed < len(ordered) and ordered[passed] * (len(ordered) - passed) <= level:
            passed += 1
        assert sum(value <= level for value in adjusted) == passed


def test_mean_and_sample_deviation() -> None:
    assert mean_and_sd([1.0, 3.0]) == pytest.approx((2.0, math.sqrt(2)))
    assert mean_and_sd([5.0]) == pytest.approx((5.0, NAN), nan_ok=True)
    assert mean_and_sd([]) == pytest.approx((NAN, NAN), nan_ok=True)
