"""What Dice a model tells to expect: curves, what they are learned from, where they show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sheets import rows_of
from test_model import a_run, a_scan, offer

from crossmod import DataError, Options, Prediction, Segmenter, Volume
from crossmod.commands.model_tables import calibration_line, confidence_table, result_line
from crossmod.data.cohorts import CohortWriter
from crossmod.files.atomic import published
from crossmod.model.calibration import FEWEST, LEVEL, Curve, fit_curve
from crossmod.model.confidence import BEFORE, COLUMNS, Confidence, by_need, read_confidence
from crossmod.model.facts import MODEL_FILE, RUN_FILE, HeldOut, RunFacts, read_facts, write_facts
from crossmod.model.label_files import predict_files
from crossmod.model.package import package
from crossmod.stages import find

DRAWS = 400
"""Calibrations of one further case each, so that hits are independent."""


def drawn(random: np.random.Generator, count: int, *, fails: bool) -> tuple[Any, Any]:
    """Agreement and Dice of cases that folds outline well, or that they fail on now and then.

    The Dice scatters more where the agreement is low.
    """
    agreement = random.beta(5, 1.5, count)
    dice = agreement**1.5 - 0.05 + random.normal(0, 0.3, count) * (1.05 - agreement)
    if fails:
        dice = np.where(random.random(count) < 0.6 * (1 - agreement), 0, dice)
    return agreement, np.clip(dice, 0, 1)


def alone(agreement: Any, dice: Any) -> Curve | None:
    """A curve from one case of each patient."""
    return fit_curve(agreement, dice, [str(number) for number in range(len(dice))])


@pytest.mark.parametrize("fails", [False, True])
def test_the_interval_holds_the_promised_share_of_further_cases(fails: bool) -> None:
    random = np.random.default_rng(17)
    hits = 0
    for _ in range(DRAWS):
        curve = alone(*drawn(random, 30, fails=fails))
        [agreement], [dice] = drawn(random, 1, fails=fails)
        assert curve is not None
        expected = curve.at(float(agreement))
        hits += expected.lower <= dice <= expected.upper
    # Three standard deviations of a binomial share: 0.06 of 400 draws. More of them than promised
    # lie within where the ends are those of the scale, as 0 is for failures.
    assert abs(hits / DRAWS - LEVEL) <= 3 * math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)


def test_it_does_so_where_patients_have_several_scans() -> None:
    """Scans of a patient are alike: with one left out, the others would give its Dice away."""
    random = np.random.default_rng(19)
    hits = 0
    for _ in range(DRAWS):
        columns = [np.repeat(values, 3) for values in drawn(random, 14, fails=False)]
        curve = fit_curve(*columns, [f"p{number // 3}" for number in range(42)])
        [agreement], [dice] = drawn(random, 1, fails=False)
        assert curve is not None
        expected = curve.at(float(agreement))
        hits += expected.lower <= dice <= expected.upper
    assert hits / DRAWS >= LEVEL - 3 * math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)


def test_scans_of_few_patients_give_no_curve() -> None:
    values = np.linspace(0, 1, 3 * FEWEST)
    few = [f"p{number % (FEWEST - 1)}" for number in range(3 * FEWEST)]
    assert fit_curve(values, values, few) is None


def test_more_agreement_never_means_less_dice() -> None:
    agreement, dice = drawn(np.random.default_rng(3), 60, fails=True)
    curve = alone(agreement, dice)
    assert curve is not None
    found = [curve.at(value) for value in np.linspace(0, 1, 201)]
    for one, other in pairwise(found):
        assert one.dice <= other.dice
        assert one.lower <= other.lower
    assert all(0 <= one.lower <= one.dice <= one.upper <= 1 for one in found)


def test_intervals_are_wide_where_residuals_are() -> None:
    agreement, dice = drawn(np.random.default_rng(4), 200, fails=False)
    curve = alone(agreement, dice)
    assert curve is not None
    low, high = curve.at(0.6), curve.at(0.95)
    assert low.upper - low.lower > 2 * (high.upper - high.lower)


def test_below_all_that_was_seen_the_interval_reaches_down_to_0() -> None:
    seen = np.linspace(0.8, 1, 40)
    curve = alone(seen, seen)
    assert curve is not None
    assert curve.at(0.8).dice == pytest.approx(0.8, abs=0.01)
    odd = curve.at(0.4)
    assert odd.dice == pytest.approx(0.4, abs=0.01)
    assert odd.lower == 0
    assert math.isnan(curve.at(math.nan).dice)


def test_too_few_cases_give_no_curve() -> None:
    values = np.linspace(0, 1, FEWEST)
    assert alone(values[1:], values[1:]) is None
    curve = alone(values, values)
    assert curve is not None
    assert curve.cases == FEWEST
    same = alone([1.0] * FEWEST, values)  # a single point
    assert same is not None
    assert same.at(1.0).dice == pytest.approx(0.5)


@pytest.mark.parametrize(
    "change",
    [{"dice": (0.1,)}, {"upper": (0.5, 1.5)}, {"agreement": (0.5, 0.5)}, {"lower": (math.nan, 0)}],
)
def test_a_damaged_curve_is_refused(change: dict[str, tuple[float, ...]]) -> None:
    whole = {"agreement": (0.2, 0.9), "dice": (0.1, 0.8), "lower": (0.0, 0.7), "upper": (0.5, 0.9)}
    Curve(cases=12, **whole)
    with pytest.raises(ValidationError):
        Curve(cases=12, **{**whole, **change})


# From a run to a model to a table.


LEVEL_OF_LABELS = 0.35


class Shrinking(Segmenter[Options]):
    """Voxels above a level are tumor; a bright corner raises the level, for each fold another."""

    def fit(self, train: Any, validation: Any, ctx: Any) -> Any:
        return {}

    def predict(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Prediction]:
        for volume in volumes:
            image = volume.data[0]
            level = LEVEL_OF_LABELS + state["level"][0] * image[0, 0, 0]
            tumor = (image > level).astype(np.float32)
            yield Prediction(volume, np.stack([1 - tumor, tumor]))


@pytest.fixture(autouse=True)
def _shrinking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    offer(monkeypatch, Shrinking)
    yield
    find.load.cache_clear()


def ramp(doubt: float) -> np.ndarray:
    """A box that fades along its first axis, and a corner that says how doubtful it is."""
    image = np.zeros((12, 14, 10), np.float32)
    image[2:10, 3:11, 2:8] = np.linspace(1.0, 0.31, 8)[:, None, None]
    image[0, 0, 0] = doubt
    return image


def source(run: Path, count: int = 24) -> HeldOut:
    """A cohort of translations: one fold left out the certain half, the other the doubtful one."""
    cases = [f"s{number:02d}" for number in range(count)]
    with published(run / "05-translate-gan", {"key": "gan"}) as folder:
        writer = CohortWriter(folder, {"tumor": 1})
        for number, case in enumerate(cases):
            image = ramp(0.45 * number / count)
            volume = Volume.of(image[None], np.diag([2.0, 2.0, 2.0, 1.0]), case=case)
            writer.add(volume, labels=(image > LEVEL_OF_LABELS).astype(np.uint8))
        writer.close()
    halves = tuple(cases[count // 2 :]), tuple(cases[: count // 2])
    return HeldOut(step="translate-gan", folder="05-translate-gan", key="gan", cases=halves)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose second fold outlines much less of a doubtful scan than the first."""
    folder = a_run(tmp_path / "run", (0.2, 1.0), options={})
    return with_held_out(folder, source(folder))


def with_held_out(run: Path, held_out: HeldOut | None) -> Path:
    facts = read_facts(run / RUN_FILE, RunFacts)
    last = facts.stages["round-1"].model_copy(update={"held_out": held_out})
    stages = {**facts.stages, "round-1": last}
    write_facts(run / RUN_FILE, facts.model_copy(update={"stages": stages}))
    return run


def calibration_of(model: Path) -> Any:
    return json.loads((model / MODEL_FILE).read_text("utf-8"))["calibration"]


def test_each_case_is_judged_by_the_fold_that_did_not_learn_from_it(
    run: Path, tmp_path: Path
) -> None:
    right = package(run, tmp_path / "right", calibrated=True).calibration
    held_out = source(tmp_path / "again")
    with_held_out(run, held_out.model_copy(update={"cases": held_out.cases[::-1]}))
    wrong = package(run, tmp_path / "wrong", calibrated=True).calibration
    assert right is not None
    assert wrong is not None
    assert right.step == "translate-gan"
    assert right.curves["tumor"].cases == 24
    # The first fold outlines the doubtful half nearly as the labels do, the second does not.
    assert right.curves["tumor"].dice[0] > wrong.curves["tumor"].dice[0] + 0.1


def test_labels_of_the_target_take_no_part(run: Path, tmp_path: Path) -> None:
    """Scores and references are all that a run folder knows of them."""
    first = package(run, tmp_path / "one", calibrated=True)
    file = run / "metrics.csv"
    file.write_text(file.read_text("utf-8").replace("0.5", "0.01"), encoding="utf-8")
    facts = read_facts(run / RUN_FILE, RunFacts)
    planted = facts.model_copy(update={"references": {"target": {"t1": "0" * 64}}})
    write_facts(run / RUN_FILE, planted)
    other = package(run, tmp_path / "other", calibrated=True)
    assert other.scores != first.scores
    assert calibration_of(tmp_path / "other") == calibration_of(tmp_path / "one")
    assert first.calibration is not None


def test_a_calibrated_model_tells_what_to_expect_and_lists_doubtful_cases_first(
    run: Path, tmp_path: Path
) -> None:
    facts = package(run, tmp_path / "model", calibrated=True)
    assert calibration_line(facts) == "calibrated on translate-gan: tumor on 24 outlines"
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "tumor: 24 outlines" in card
    assert "are not calibrated" not in card
    scans = [
        a_scan(tmp_path / "scans", case, 100 * ramp(doubt)[::-1, ::-1]).path  # upright again
        for case, doubt in (("a", 0.0), ("b", 0.28), ("c", 0.12))
    ]
    told: list[str] = []
    done = predict_files(tmp_path / "model", scans, tmp_path / "out", tell=told.append)
    assert not [text for text in told if "expected Dice" in text]
    rows = done.confidence
    assert rows == read_confidence(tmp_path / "out" / "confidence.csv")
    assert [row.case for row in rows] == ["b", "c", "a"]
    assert rows[0].expected_dice < rows[-1].expected_dice
    for row in rows:
        assert 0 <= row.lower_dice <= row.expected_dice <= row.upper_dice <= 1
    table = confidence_table(rows)
    assert "expected Dice (80%)" in [column.header for column in table.columns]


def test_a_model_without_calibration_works_and_says_so(run: Path, tmp_path: Path) -> None:
    facts = package(run, tmp_path / "model")
    assert calibration_of(tmp_path / "model") is None
    assert calibration_line(facts).startswith("not calibrated")
    assert "are not calibrated" in (tmp_path / "model" / "README.md").read_text("utf-8")
    file = tmp_path / "model" / MODEL_FILE
    content = json.loads(file.read_text("utf-8"))
    del content["calibration"]  # as versions before wrote it
    file.write_text(json.dumps(content), encoding="utf-8")
    scans = [a_scan(tmp_path / "scans", "a", 100 * ramp(0.0)).path]
    told: list[str] = []
    done = predict_files(tmp_path / "model", scans, tmp_path / "out", tell=told.append)
    assert [text for text in told if "packaged without --calibrate" in text]
    assert math.isnan(done.confidence[0].expected_dice)
    [row] = rows_of(tmp_path / "out" / "confidence.csv")
    assert [row[name] for name in COLUMNS[len(BEFORE) :]] == [""] * 3


def test_what_cannot_be_calibrated_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    with_held_out(run, None)
    with pytest.raises(DataError, match="which source scans each fold left out"):
        package(run, model, calibrated=True)
    single = a_run(tmp_path / "single", (0.5,), options={})
    with pytest.raises(DataError, match="its only fold learned from every source scan"):
        package(single, model, calibrated=True)
    held_out = source(tmp_path / "other")
    with_held_out(run, held_out.model_copy(update={"key": "of another run"}))
    with pytest.raises(DataError, match="does not hold the scans of this run"):
        package(run, model, calibrated=True)
    with_held_out(run, held_out)
    labels = run / "05-translate-gan" / "labels" / "s03.nii"
    labels.chmod(0o644)
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged: labels/s03\.nii"):
        package(run, model, calibrated=True)
    assert not model.exists()
    package(run, model)


# The order of cases, and tables from before.


def a_row(case: str, agreement: float = 0.9, flag: str = "", dice: float = math.nan) -> Confidence:
    row = Confidence(case, "tumor", agreement, 0.8, 100.0, flag, 0.0)
    return replace(row, expected_dice=dice, lower_dice=dice, upper_dice=dice)


def test_cases_that_need_a_look_are_listed_first() -> None:
    rows = [a_row("fine"), a_row("doubtful", 0.7), a_row("flagged", 0.95, "at the edge")]
    rows += [replace(a_row("doubtful", 0.99), structure="cochlea"), a_row("unknown", math.nan)]
    order = [row.case for row in by_need(rows)]
    assert order == ["flagged", "doubtful", "doubtful", "fine", "unknown"]
    known = [a_row("steady", 0.7, dice=0.9), a_row("other", 0.9, dice=0.6)]
    assert [row.case for row in by_need(known)] == ["other", "steady"]


def test_a_missed_structure_comes_before_a_milder_flag() -> None:
    edge = a_row("edge", 0.86, "at the edge", dice=0.8)
    missed = [a_row("missed", math.nan, "not found"), a_row("missed", 0.93, dice=0.93)]
    assert [row.case for row in by_need([edge, *missed])] == ["missed", "missed", "edge"]


def test_a_table_from_before_calibration_is_read(tmp_path: Path) -> None:
    file = tmp_path / "confidence.csv"
    file.write_text(",".join(BEFORE) + "\na,tumor,0.9,0.8,12.5,,0.0\n", encoding="utf-8")
    [row] = read_confidence(file)
    assert (row.case, row.agreement, row.removed_mm3) == ("a", 0.9, 0.0)
    assert math.isnan(row.expected_dice)
    for cells in ("a,tumor,0.9,0.8,12.5,", "a,tumor" + ",1" * 9):
        file.write_text(f"{','.join(BEFORE)}\n{cells}\n", encoding="utf-8")
        with pytest.raises(DataError, match="is not a row of confidences"):
            read_confidence(file)


def test_a_line_of_the_log_tells_what_to_expect() -> None:
    row = replace(a_row("a", dice=0.81), lower_dice=0.7, upper_dice=0.88)
    result: Any = SimpleNamespace(scan=SimpleNamespace(case="a"), confidence=[row])
    assert result_line(result) == "a: tumor 100 mm³, expected Dice 0.81 (0.70 to 0.88)"
