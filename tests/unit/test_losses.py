"""Every class of a label map is accounted for from its file to the label map to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import HELD_OUT, SMOKE, SOURCE, TARGET, survey_of, write
from scipy.ndimage import gaussian_filter

from crossmod import DataError
from crossmod.data.classes import Classes
from crossmod.data.grids import Grid, Preprocess, closest_canonical, common_grid, to_common
from crossmod.intake import Inspector, Intake, Survey
from crossmod.intake.classes import lines_on_classes
from crossmod.intake.losses import safe_part, ways
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.stages.context import Context
from crossmod.store.store import Store

SHAPE = (96, 80, 20)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
CROP = ("preprocess.spacing_mm=[1,1,2]", "preprocess.crop=[40,40]", "preprocess.center=head")
CASES = ("crossmoda2021_ldn_1", "crossmoda2022_etz_1")
TUMOR, COCHLEA = (
    (slice(36, 48), slice(36, 46), slice(6, 12)),
    (slice(52, 58),) * 2 + (slice(8, 12),),
)


def head(number: int) -> np.ndarray:
    """A ball of noise in the middle of nothing."""
    grid = np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2
    inside = ((grid / [34, 30, 9]) ** 2).sum(axis=-1).T < 1
    noise = np.random.default_rng(number).integers(200, 300, SHAPE)
    return np.where(inside, noise, number).astype(np.int16)


def outlines(*boxes: tuple[slice, ...], value: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        labels[box] = value
    labels[COCHLEA] = 2
    return labels


def label(root: Path, case: str = CASES[0]) -> Path:
    return root / SOURCE / f"{case}_Label.nii.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, number = tmp_path / "data", 0
    for case in CASES:
        for name in (f"{SOURCE}/{case}_ceT1", f"{TARGET}/{case[:-1]}2_hrT2",
                     f"{HELD_OUT}/{case[:-1]}3_hrT2"):  # fmt: skip
            number += 1
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write(root / f"{name}.nii.gz", data=head(number), affine=AFFINE)
        (root / "hidden").mkdir(exist_ok=True)
        for path in (label(root, case), root / "hidden" / f"{case[:-1]}3_Label.nii.gz"):
            write(path, data=outlines(TUMOR), affine=AFFINE)
    return root


def prepared(root: Path, made: Path, *more: str) -> None:
    step = Planner(load_all(SMOKE, more)[0], root).plan().source
    made.mkdir()
    step.make(Store(made.with_name("store")), Context(made))


def told(found: Survey) -> list[str]:
    return [text for _, text in found.remarks]


def test_nothing_is_said_of_label_maps_that_keep_everything(root: Path) -> None:
    found = survey_of(root, *CROP)
    assert (found.problems, found.remarks) == ([], [])


FAR = (slice(2, 10), slice(36, 46), slice(6, 12))
DOT = (slice(40, 41), slice(40, 41), slice(8, 9))
LOST = {
    "crop": (
        outlines(FAR),
        CROP,
        "all of 'tumor' (960 mm3) lies outside the crop of 40 x 40 voxels",
    ),
    "grid": (
        outlines(DOT),
        ("preprocess.spacing_mm=[4,4,4]", "preprocess.crop=[20,20]"),
        "all of 'tumor' (2 mm3) is too small for the common grid of 4 x 4 x 4 mm and vanishes",
    ),
}


@pytest.mark.parametrize(("labels", "more", "what"), LOST.values(), ids=LOST.keys())
def test_a_class_that_is_lost_in_one_case_is_an_error_before_anything_is_learned(
    labels: np.ndarray, more: tuple[str, ...], what: str, root: Path, tmp_path: Path
) -> None:
    write(label(root), data=labels, affine=AFFINE)
    [problem] = survey_of(root, *more).problems
    assert problem.startswith(f"{label(root)}: labels: case {CASES[0]}: {what}")
    assert "\n  choose a " in problem
    with pytest.raises(DataError) as caught:
        prepared(root, tmp_path / "made", *more)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("fault", "fix"),
    [
        ("crop", ["preprocess.crop=[96,80]"]),
        ("grid", ["preprocess.spacing_mm=[1,1,2]", "preprocess.crop=[80,80]"]),
    ],
)
def test_the_fix_that_is_offered_helps(
    fault: str, fix: list[str], root: Path, tmp_path: Path
) -> None:
    labels, more, _ = LOST[fault]
    write(label(root), data=labels, affine=AFFINE)
    assert survey_of(root, *more, *fix).problems == []
    prepared(root, tmp_path / "made", *more, *fix)


def test_a_class_that_is_cropped_in_part_is_a_note_with_the_share(root: Path) -> None:
    write(label(root), data=outlines((slice(18, 48), *TUMOR[1:])), affine=AFFINE)
    found = survey_of(root, *CROP)
    assert found.problems == []
    [text] = told(found)
    before, _, share = text.partition("the crop keeps ")
    assert before == f"{label(root)}: labels: case {CASES[0]}: "
    # The crop begins at 28 of 96 voxels, give or take one by the noise in the scan.
    assert share.endswith(" % of 'tumor'")
    assert 63 < float(share.partition(" ")[0]) < 70


def test_a_class_outside_a_resampled_scan_is_lost_there(root: Path, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = -48.0  # the tumor comes to lie before the first voxel, the cochlea within
    write(label(root), data=outlines(TUMOR), affine=moved)
    more = ("intake.resample_labels=true", "preprocess.crop=[96,80]", CROP[0])
    [problem] = survey_of(root, *more).problems
    assert f"case {CASES[0]}: all of 'tumor' (1440 mm3) is lost on the grid of the scan" in problem
    with pytest.raises(DataError, match="is lost on the grid of the scan"):
        prepared(root, tmp_path / "made", *more)


def test_a_reference_that_is_cropped_away_is_a_note(root: Path) -> None:
    """It is scored against, not learned from: no outline can find it."""
    path = root / "hidden" / f"{CASES[0][:-1]}3_Label.nii.gz"
    write(path, data=outlines(FAR), affine=AFFINE)
    found = survey_of(root, *CROP)
    assert found.problems == []
    assert "all of 'tumor' (960 mm3) lies outside the crop" in told(found)[0]


def test_references_that_the_oracle_learns_from_lose_nothing(root: Path) -> None:
    for case in CASES:
        path = root / "hidden" / f"{case[:-1]}2_Label.nii.gz"
        write(path, data=outlines(FAR), affine=AFFINE)
    assert len(survey_of(root, *CROP).problems) == 2
    assert survey_of(root, *CROP, "evaluate.compare=[]").problems == []


def test_what_the_label_maps_hold_is_summed_up(root: Path) -> None:
    write(label(root), data=outlines(), affine=AFFINE)
    found = survey_of(root, *CROP)
    assert lines_on_classes(found) == [
        "references: 2 of 4 (target 0 of 2, validation 2 of 2)",
        "tumor: 1 of 2 source label maps, 720 voxels; 2 of 2 validation references, 1440 voxels",
        "cochlea: 2 of 2 source label maps, 288 voxels; 2 of 2 validation references, 288 voxels",
    ]
    assert told(found) == [f"source: labels: 'tumor' is missing in 1 of 2 label maps: {CASES[0]}"]


def test_two_tumors_of_which_predictions_keep_one(root: Path) -> None:
    other = (slice(56, 62), slice(36, 42), slice(6, 12))
    write(label(root), data=outlines(TUMOR, other), affine=AFFINE)
    single = 'segment.largest_component=["tumor"]'
    [text] = told(survey_of(root, *CROP, single))
    assert text == (
        f"{label(root)}: labels: 'tumor' has 2 components of 720, 216 voxels;"
        " largest_component leaves one in each prediction"
    )
    none = ("segment.largest_component=[]", "pseudo_label.largest_component=[]")
    assert told(survey_of(root, *CROP, *none)) == []
    speck = (slice(60, 61), slice(36, 41), slice(6, 7))  # of 5 voxels
    write(label(root), data=outlines(TUMOR, speck), affine=AFFINE)
    assert told(survey_of(root, *CROP, single)) == []


def test_what_was_followed_is_remembered(root: Path, tmp_path: Path) -> None:
    classes, memory = Classes({"tumor": (1,)}), tmp_path / "memory"
    pair = root / SOURCE / f"{CASES[0]}_ceT1.nii.gz", label(root)
    options = Preprocess(spacing_mm=(1, 1, 2), crop=(40, 40), center="head")
    looks = [Inspector(Intake(), memory).ways(pair, "", options, classes) for _ in range(2)]
    assert looks[0] == looks[1]
    assert len(list(memory.iterdir())) == 1
    other = Inspector(Intake(), memory).ways(pair, "", options, Classes({"tumor": (2,)}))
    assert other != looks[0]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(20, 200), st.integers(20, 200), st.integers(4, 12)),
    crop=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    center=st.sampled_from(["bright", "head"]),
    axes=st.permutations(range(3)),
)
def test_what_is_followed_is_what_is_learned_from(
    seed: int, shape: tuple[int, ...], crop: tuple[int, int], center: str, axes: list[int]
) -> None:
    """And the part that counts as safe lies in the crop, however the scan is turned."""
    rng = np.random.default_rng(seed)
    data = gaussian_filter(rng.random(shape), (8, 8, 1)).astype(np.float32).transpose(axes)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([0.7, 0.8, 1.5])[:, axes]
    labels = (rng.random(data.shape) > 0.95).astype(np.uint8)
    options = Preprocess(spacing_mm=(0.9, 0.7, 1.5), crop=crop, center=center)
    image, common, where = to_common(data, labels, affine, options)
    grid = Grid(image.shape, where)
    classes = Classes({"tumor": (1,)})
    [way] = ways(labels, 0.84, (labels, Grid(data.shape, affine)), grid, classes, options)
    assert common is not None
    voxel_mm3 = np.prod(grid.spacing_mm)
    assert way.crop == pytest.approx(np.count_nonzero(common) * voxel_mm3)
    part = safe_part(data, affine, options)
    exact = common_grid(*closest_canonical(data, affine), options)
    assert part is not None
    if min(part.shape) > 0:
        start = (np.linalg.inv(exact.affine) @ part.affine)[:2, 3]
        assert (start >= -1e-6).all()
        assert (start + part.shape[:2] <= np.array(exact.shape[:2]) + 1e-6).all()
