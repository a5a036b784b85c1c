import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy
from scored import Measured, scored

from crossmod.data.crossmoda import EMPTY_PREDICTION_MM
from crossmod.data.volumes import Affine
from crossmod.errors import DataError
from crossmod.scores import metrics
from crossmod.scores.metrics import (
    COLUMNS,
    OVERALL,
    Score,
    read_scores,
    summarize,
    write_scores,
)
from crossmod.scores.surfaces import BoolArray, Distances, Spacing
from crossmod.scores.table import Masks

CLASSES = {"tumor": 1, "cochlea": 2}
NAN = math.nan
FAR = EMPTY_PREDICTION_MM


def blob(
    shape: tuple[int, ...], center: tuple[float, ...], radius: float, seed: int = 0
) -> BoolArray:
    """A ball with a rough surface."""
    grid = np.indices(shape).transpose(1, 2, 3, 0) - np.asarray(center)
    noise = np.random.default_rng(seed).normal(0, 0.5, shape)
    return np.asarray(np.linalg.norm(grid, axis=-1) + noise < radius)


def row(case: str, center: str, value: float, distance: float, **changes: str) -> Score:
    words = {"split": "validation", "stage": "translated", "structure": "tumor", **changes}
    numbers = value, distance, 2 * distance, value / 2, value - 1, 99.0
    return replace(scored("", "", case, center, "", *numbers), **words)


def compare(
    prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing, **options: Any
) -> Measured:
    masks = Masks(prediction, reference, spacing_mm, math.prod(spacing_mm), **options)
    return Measured(**metrics.measure(masks))


def score(*given: Any, **options: Any) -> dict[str, Measured]:
    return {name: Measured(**found) for name, found in metrics.score(*given, **options).items()}


class MaskPair(NamedTuple):
    prediction: BoolArray
    reference: BoolArray
    spacing: Spacing
    affine: Affine


def turned(spacing: Spacing, angles: tuple[float, float, float] = (0, 0, 0)) -> Affine:
    """An affine whose columns have a negative spacing as a flip, turned about x, y and z."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (i for i in range(3) if i != axis)
        step = np.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    return affine


@st.composite
def mask_pairs(draw: st.DrawFn) -> MaskPair:
    """Two masks that are not empty on an anisotropic, often flipped and oblique grid."""
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    densities = draw(st.tuples(*[st.sampled_from([0.02, 0.2, 0.6, 0.95, 1.0])] * 2))
    masks = [rng.random(shape) < density for density in densities]
    for mask in masks:
        mask[tuple(rng.integers(0, shape))] = True
    x, y, z = draw(st.tuples(*[st.floats(0.2, 4.0)] * 3))
    flips = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    angles = draw(st.tuples(*[st.sampled_from([0.0, 0.1, -0.7, 2.0])] * 3))
    affine = turned((x * flips[0], y * flips[1], z * flips[2]), angles)
    return MaskPair(masks[0], masks[1], (x, y, z), affine)


@settings(max_examples=200)
@given(mask_pairs())
def test_m03_all_metrics_equal_medpy_on_any_grid(case: MaskPair) -> None:
    masks = case.prediction, case.reference
    maps = [mask.astype(np.uint8) for mask in masks]
    ours = score(maps[0], maps[1], case.affine, {"tumor": 1})["tumor"]
    assert ours.dice == pytest.approx(medpy.dc(*masks), abs=1e-12)
    assert ours.assd_mm == pytest.approx(medpy.assd(*masks, voxelspacing=case.spacing), abs=1e-6)
    assert ours.hd95_mm == pytest.approx(medpy.hd95(*masks, voxelspacing=case.spacing), abs=1e-6)
    assert ours.volume_error == pytest.approx(medpy.ravd(*masks), abs=1e-12)


@settings(max_examples=100)
@given(mask_pairs())
def test_the_mean_of_directed_means_equals_medpy_0_4(case: MaskPair) -> None:
    masks = case.prediction, case.reference
    ways = [medpy.asd(*pair, voxelspacing=case.spacing) for pair in (masks, masks[::-1])]
    ours = compare(*masks, case.spacing, definition="directed").assd_mm
    assert ours == pytest.approx(sum(ways) / 2, abs=1e-6)


@settings(max_examples=50)
@given(mask_pairs(), st.sampled_from([0.0, 0.33, 1.17, 3.71]))
def test_surface_dice_equals_monai(case: MaskPair, tolerance: float) -> None:
    import torch
    from monai.metrics import compute_surface_dice

    maps = [torch.from_numpy(m[np.newaxis, np.newaxis]) for m in (case.prediction, case.reference)]
    theirs = compute_surface_dice(*maps, [tolerance], include_background=True, spacing=case.spacing)
    ours = compare(case.prediction, case.reference, case.spacing, tolerance_mm=tolerance).nsd
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_blobs_equal_medpy() -> None:
    spacing = (0.6, 0.6, 1.5)
    pair = blob((40, 44, 24), (20, 20, 12), 8.0), blob((40, 44, 24), (23, 21, 11), 7.0, seed=1)
    ours = compare(*pair, spacing)
    assert ours.assd_mm == pytest.approx(medpy.assd(*pair, voxelspacing=spacing), abs=1e-9)
    assert ours.hd95_mm == pytest.approx(medpy.hd95(*pair, voxelspacing=spacing), abs=1e-9)


FROZEN = [
    ((0.5, 0.8, 3.0), (0.6185567010309279, 0.8945529985074476, 3.0413812651491097)),
    ((3.0, 0.5, 0.8), (0.6185567010309279, 0.9041721143760719, 3.0413812651491097)),
    ((1.0, 1.0, 1.0), (0.6185567010309279, 0.6471760435719298, 1.4142135623730951)),
]
"""Voxel size -> Dice, ASSD and HD95 as MedPy 0.5.2 computed them in November 2026."""


@pytest.mark.parametrize(("spacing", "expected"), FROZEN)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1)])
def test_m03_values_are_those_that_medpy_had(
    spacing: Spacing, expected: tuple[float, ...], flips: tuple[int, int, int]
) -> None:
    maps = np.zeros((2, 12, 10, 8), np.uint8)
    maps[0, 2:8, 3:7, 2:5] = maps[0, 9, 8, 6] = 1
    maps[1, 3:9, 3:8, 1:5] = maps[1, 0, 0, 7] = 1
    x, y, z = (size * flip for size, flip in zip(spacing, flips, strict=True))
    turned_maps = [np.flip(one, [i for i in range(3) if flips[i] < 0]) for one in maps]
    found = score(turned_maps[0], turned_maps[1], turned((x, y, z)), {"tumor": 1})["tumor"]
    assert found[:3] == pytest.approx(expected, abs=1e-6)


def test_m01_an_empty_prediction_is_charged_and_counted() -> None:
    maps = np.zeros((2, 5, 4, 4), np.uint8)
    maps[1, :2, 1, 1] = 1
    missed = score(maps[0], maps[1], np.eye(4), {"tumor": 1})["tumor"]
    assert missed[:4] == (0.0, EMPTY_PREDICTION_MM, EMPTY_PREDICTION_MM, 0.0)
    scores = [
        row("a", "London", 0.8, 1.0),
        scored("validation", "translated", "b", "London", "tumor", *missed),
    ]
    overall = summarize(scores, "validation", "tumor")[-1]
    assert (overall.cases, overall.penalized, overall.not_applicable) == (2, 1, 0)
    assert overall.spreads["dice"][0] == pytest.approx(0.4)
    assert overall.spreads["assd_mm"][0] == pytest.approx((1 + EMPTY_PREDICTION_MM) / 2)


def test_m02_what_is_nowhere_does_not_apply_and_what_is_only_predicted_counts() -> None:
    maps = np.zeros((2, 5, 4, 4), np.uint8)
    nowhere = score(maps[0], maps[1], np.eye(4), {"tumor": 1})["tumor"]
    assert all(math.isnan(value) for value in nowhere[:5])
    maps[0, 0, 0, 0] = 1
    invented = score(maps[0], maps[1], np.eye(4), {"tumor": 1})["tumor"]
    assert invented[:4] == (0.0, EMPTY_PREDICTION_MM, EMPTY_PREDICTION_MM, 0.0)
    assert invented.volume_mm3 == 0
    scores = [
        scored("validation", "translated", case, "London", "tumor", *measures)
        for case, measures in (("a", nowhere), ("b", invented))
    ]
    overall = summarize(scores, "validation", "tumor")[-1]
    assert (overall.cases, overall.penalized, overall.not_applicable) == (1, 1, 1)
    assert [mean for mean, _ in overall.spreads.values()] == [0.0, EMPTY_PREDICTION_MM]


def test_what_each_metric_reads_from_the_distances() -> None:
    distances = Distances(np.array([0.0, 1.0]), np.array([2.0, 2.0, 4.0]))
    assert distances.assd_mm() == pytest.approx(9 / 5)
    assert distances.assd_mm("directed") == pytest.approx((1 / 2 + 8 / 3) / 2)
    assert distances.hd95_mm() == pytest.approx(2 + 0.8 * 2)
    assert [distances.nsd(mm) for mm in (0.0, 0.99, 1.0, 3.0, 4.0)] == [0.2, 0.2, 0.4, 0.8, 1.0]


def test_a_rounded_voxel_size_does_not_push_a_surface_out_of_the_tolerance() -> None:
    first, second = np.zeros((2, 5, 5, 5), dtype=bool)
    first[2, 2, 2] = second[2, 2, 3] = True
    for size in (1.0, float(np.float32(1 + 1e-7)), 0.99999998):
        assert compare(first, second, (1.0, 1.0, size), tolerance_mm=1.0).nsd == 1
    assert compare(first, second, (1.0, 1.0, 1.001), tolerance_mm=1.0).nsd == 0


def test_shifted_voxel_is_one_spacing_away() -> None:
    first, second = np.zeros((2, 5, 5, 5), dtype=bool)
    first[2, 2, 2] = second[2, 2, 3] = True
    assert compare(first, second, (1.0, 1.0, 2.5)) == (0.0, 2.5, 2.5, 0.0, 0.0, 2.5)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (0, 2, (0.0, FAR, FAR, 0.0, -1.0, 2.0)),
        (2, 0, (0.0, FAR, FAR, 0.0, NAN, 0.0)),
        (0, 0, (NAN, NAN, NAN, NAN, NAN, 0.0)),
        (2, 2, (1.0, 0.0, 0.0, 1.0, 0.0, 2.0)),
        (3, 2, (0.8, 0.2, 0.8, 1.0, 0.5, 2.0)),
        (1, 2, (2 / 3, 1 / 3, 0.9, 1.0, -0.5, 2.0)),
    ],
)
def test_rows_of_voxels(prediction: int, reference: int, expected: tuple[float, ...]) -> None:
    maps = np.zeros((2, 5, 4, 4), dtype=np.uint8)
    maps[0, :prediction, 1, 1], maps[1, :reference, 1, 1] = 1, 1
    result = score(maps[0], maps[1], np.eye(4), CLASSES)
    assert result["tumor"] == pytest.approx(expected, nan_ok=True)
    assert result["cochlea"] == pytest.approx((NAN, NAN, NAN, NAN, NAN, 0.0), nan_ok=True)


def test_the_challenge_takes_the_diagonal_and_directed_means() -> None:
    affine = turned((-0.5, 0.5, 3.0), (0.0, 0.0, math.radians(30)))
    maps = np.zeros((2, 9, 6, 6), dtype=np.uint8)
    maps[0, 2, 2, 2] = maps[1, 3, 2, 2] = maps[1, 6, 2, 2] = 2
    own = score(maps[0], maps[1], affine, CLASSES)["cochlea"]
    theirs = score(maps[0], maps[1], affine, CLASSES, challenge=True)["cochlea"]
    assert own.assd_mm == pytest.approx(0.5 * (1 + 1 + 4) / 3)
    assert theirs.assd_mm == pytest.approx(0.5 * math.cos(math.radians(30)) * (1 + 5 / 2) / 2)
    assert own.dice == theirs.dice
    assert own.volume_mm3 == theirs.volume_mm3 == pytest.approx(2 * 0.5 * 0.5 * 3.0)


def test_the_challenge_refuses_a_diagonal_that_is_no_voxel_size() -> None:
    maps = np.zeros((2, 3, 3, 3), np.uint8)
    affine = np.eye(4)[[1, 0, 2, 3]]
    assert score(maps[0], maps[1], affine, CLASSES)
    with pytest.raises(DataError, match="diagonal"):
        score(maps[0], maps[1], affine, CLASSES, challenge=True)


def test_the_tolerance_is_passed_on() -> None:
    maps = np.zeros((2, 5, 5, 5), np.uint8)
    maps[0, 1, 1, 1] = maps[1, 1, 1, 3] = 1
    near, far = (
        score(maps[0], maps[1], np.eye(4), CLASSES, tolerance_mm=mm)["tumor"].nsd for mm in (1, 2)
    )
    assert (near, far) == (0.0, 1.0)


def test_score_refuses_other_grids() -> None:
    with pytest.raises(DataError, match=r"\(3, 3, 3\)"):
        score(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 4), np.uint8), np.eye(4), CLASSES)


def test_score_files_come_back_as_they_were(tmp_path: Path) -> None:
    scores = [
        row('a,"b"\n', "London", 1 / 3, 0.1),
        row("ü", "", NAN, NAN),
        row("c", "Tilburg", 0.0, EMPTY_PREDICTION_MM),
    ]
    write_scores(tmp_path / "scores.csv", scores)
    text = (tmp_path / "scores.csv").read_text(encoding="utf-8")
    header = "split,stage,case,center,class,dice,assd_mm,hd95_mm,nsd,volume_error,volume_mm3"
    assert text.splitlines()[0] == ",".join(COLUMNS) == header
    assert "translated,ü,,tumor,,,,,,99.0\n" in text
    assert "translated,c,Tilburg,tumor,0.0,350.0,700.0,0.0,-1.0,99.0\n" in text
    back = read_scores(tmp_path / "scores.csv")
    assert repr(back) == repr(scores)


HEAD = ",".join(COLUMNS) + "\nv,s,c,h,t,"


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n", f"{HEAD}high,1,2,3,4,5\n", f"{HEAD}0,1\n", f"{HEAD}0,1,2,3,4,5,6\n"],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(DataError, match=r"scores\.csv"):
        read_scores(tmp_path / "scores.csv")


def test_m01_m02_summary_counts_penalties_and_what_does_not_apply() -> None:
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
    assert london.spreads["dice"] == pytest.approx((0.4, 0.4 * math.sqrt(2)))
    assert london.spreads["assd_mm"][0] == pytest.approx(175.25)
    assert math.isnan(tilburg.spreads["dice"][1])
    assert overall.spreads["dice"][0] == pytest.approx(1.4 / 3)


def test_summary_of_nothing() -> None:
    assert summarize([], "validation", "tumor") == []
    only = summarize([row("a", "London", NAN, NAN)], "validation", "tumor")
    assert all(r.cases == 0 and math.isnan(r.spreads["dice"][0]) for r in only)


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
        ours.append(seconds(lambda: compare(*pair, spacing)))
        theirs.append(seconds(lambda: by_medpy(*pair, spacing)))
    assert compare(*pair, spacing)[:3] == pytest.approx(by_medpy(*pair, spacing), abs=1e-6)
    assert min(theirs) / min(ours) >= 5


def by_medpy(prediction: BoolArray, reference: BoolArray, spacing: Spacing) -> Sequence[float]:
    pair = prediction, reference
    assd = medpy.assd(*pair, voxelspacing=spacing)
    return medpy.dc(*pair), assd, medpy.hd95(*pair, voxelspacing=spacing)
