import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy

from crossmod.errors import DataError
from crossmod.metrics import (
    COLUMNS,
    EMPTY_PREDICTION_MM,
    OVERALL,
    BoolArray,
    Score,
    assd_mm,
    dice,
    read_scores,
    score,
    summarize,
    write_scores,
)

CLASSES = {"tumor": 1, "cochlea": 2}
NAN = math.nan


def blob(
    shape: tuple[int, ...], center: tuple[float, ...], radius: float, seed: int = 0
) -> BoolArray:
    """A ball with a rough surface."""
    grid = np.indices(shape).transpose(1, 2, 3, 0) - np.asarray(center)
    noise = np.random.default_rng(seed).normal(0, 0.5, shape)
    return np.asarray(np.linalg.norm(grid, axis=-1) + noise < radius)


def row(case: str, center: str, value: float, distance: float, **changes: str) -> Score:
    words = {"split": "validation", "stage": "translated", "structure": "tumor", **changes}
    return Score(case=case, center=center, dice=value, assd_mm=distance, **words)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[BoolArray, BoolArray, tuple[float, float, float]]:
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    densities = draw(st.tuples(*[st.sampled_from([0.02, 0.2, 0.6, 0.95, 1.0])] * 2))
    masks = [rng.random(shape) < density for density in densities]
    for mask in masks:
        mask[tuple(rng.integers(0, shape))] = True
    spacing = draw(st.tuples(*[st.floats(0.2, 4.0)] * 3))
    return masks[0], masks[1], spacing


@settings(max_examples=200, deadline=None)
@given(mask_pairs())
def test_both_metrics_equal_medpy(
    case: tuple[BoolArray, BoolArray, tuple[float, float, float]],
) -> None:
    prediction, reference, spacing = case
    assert dice(prediction, reference) == pytest.approx(medpy.dc(prediction, reference), abs=1e-12)
    expected = medpy.assd(prediction, reference, voxelspacing=spacing)
    assert assd_mm(prediction, reference, spacing) == pytest.approx(expected, abs=1e-6)


def test_blobs_equal_medpy() -> None:
    spacing = (0.6, 0.6, 1.5)
    pair = blob((40, 44, 24), (20, 20, 12), 8.0), blob((40, 44, 24), (23, 21, 11), 7.0, seed=1)
    expected = medpy.assd(*pair, voxelspacing=spacing)
    assert assd_mm(*pair, spacing) == pytest.approx(expected, abs=1e-9)


def test_flipped_axes_change_nothing() -> None:
    first, second = blob((20, 20, 20), (9, 9, 9), 5.0), blob((20, 20, 20), (11, 9, 9), 5.0, seed=1)
    expected = assd_mm(first, second, (1.0, 2.0, 3.0))
    flipped = first[::-1, :, ::-1], second[::-1, :, ::-1]
    assert assd_mm(*flipped, (1.0, 2.0, 3.0)) == pytest.approx(expected, abs=1e-12)


def test_shifted_voxel_is_one_spacing_away() -> None:
    first, second = np.zeros((2, 5, 5, 5), dtype=bool)
    first[2, 2, 2] = second[2, 2, 3] = True
    assert assd_mm(first, second, (1.0, 1.0, 2.5)) == 2.5


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (0, 1, (0.0, EMPTY_PREDICTION_MM)),
        (1, 0, (0.0, EMPTY_PREDICTION_MM)),
        (0, 0, (NAN, NAN)),
        (1, 1, (1.0, 0.0)),
    ],
)
def test_empty_masks(prediction: int, reference: int, expected: tuple[float, float]) -> None:
    maps = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    maps[0, 1, 1, 1], maps[1, 1, 1, 1] = prediction, reference
    result = score(maps[0], maps[1], np.eye(4), CLASSES)
    assert result["tumor"] == pytest.approx(expected, nan_ok=True)


def test_score_uses_the_spacing_of_an_oblique_affine() -> None:
    angle = math.radians(30)
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 0.5, 3.0])
    maps = np.zeros((2, 6, 6, 6), dtype=np.uint8)
    maps[0, 2, 2, 2] = maps[1, 3, 2, 2] = 2
    assert score(maps[0], maps[1], affine, CLASSES)["cochlea"] == pytest.approx((0.0, 0.5))


def test_score_refuses_other_grids() -> None:
    with pytest.raises(DataError, match=r"\(3, 3, 3\)"):
        score(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 4), np.uint8), np.eye(4), CLASSES)


def test_score_files_come_back_as_they_were(tmp_path: Path) -> None:
    scores = [
        row('a,"b"\n', "London", 1 / 3, 0.1),
        row("ü", "", NAN, NAN),
        row("c", "Tilburg", 0.0, EMPTY_PREDICTION_MM),
    ]
    write_scores(tmp_path / "new" / "scores.csv", scores)
    text = (tmp_path / "new" / "scores.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == ",".join(COLUMNS) == "split,stage,case,center,class,dice,assd_mm"
    assert "translated,ü,,tumor,,\n" in text
    back = read_scores(tmp_path / "new" / "scores.csv")
    assert repr(back) == repr(scores)


@pytest.mark.parametrize("text", ["", "a,b\n", ",".join(COLUMNS) + "\nv,s,c,h,t,high,1\n"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(DataError, match=r"scores\.csv"):
        read_scores(tmp_path / "scores.csv")


def test_summary_counts_penalties_and_what_does_not_apply() -> None:
    scores = [
        row("z", "Tilburg", 0.9, 0.3, stage="round-1"),
        row("a", "London", 0.8, 0.5),
        row("b", "London", 0.0, EMPTY_PREDICTION_MM),
        row("c", "Tilburg", 0.6, 1.0),
        row("d", "Tilburg", NAN, NAN),
        row("a", "London", 0.1, 9.0, structure="cochlea"),
        row("a", "London", 0.1, 9.0, split="target"),
    ]
    rows = summarize(scores, "validation", "tumor")
    assert [(r.stage, r.center) for r in rows] == [
        ("round-1", "Tilburg"),
        ("round-1", OVERALL),
        ("translated", "London"),
        ("translated", "Tilburg"),
        ("translated", OVERALL),
    ]
    london, tilburg, overall = rows[2:]
    assert (london.cases, london.penalized, london.not_applicable) == (2, 1, 0)
    assert (tilburg.cases, tilburg.penalized, tilburg.not_applicable) == (1, 0, 1)
    assert london.dice_mean == pytest.approx(0.4)
    assert london.dice_sd == pytest.approx(0.4 * math.sqrt(2))
    assert london.assd_mean_mm == pytest.approx(175.25)
    assert math.isnan(tilburg.dice_sd)
    assert overall.dice_mean == pytest.approx(1.4 / 3)


def test_summary_of_nothing() -> None:
    assert summarize([], "validation", "tumor") == []
    only = summarize([row("a", "London", NAN, NAN)], "validation", "tumor")
    assert all(r.cases == 0 and math.isnan(r.dice_mean) for r in only)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("radius", [18.0, 38.0])
def test_five_times_faster_than_medpy(radius: float) -> None:
    shape, spacing = (256, 256, 80), (0.6, 0.6, 1.0)
    pair = (
        blob(shape, (120, 120, 40), radius),
        blob(shape, (123, 121, 41), 0.95 * radius, seed=1),
    )
    ours, theirs = [], []
    for _ in range(3):
        ours.append(seconds(lambda: (dice(*pair), assd_mm(*pair, spacing))))
        theirs.append(seconds(lambda: (medpy.dc(*pair), medpy.assd(*pair, voxelspacing=spacing))))
    assert min(theirs) / min(ours) >= 5
