"""What each fault of pairs, labels and splits must lead to: an error that names it, or a remark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    HELD_OUT,
    LABELS,
    SMOKE,
    SOURCE,
    TARGET,
    small_cohort,
    some_data,
    survey_of,
    write,
)
from scipy.spatial.transform import Rotation

from crossmod import Cohort, DataError
from crossmod.data.grids import Grid
from crossmod.intake import Survey, difference, load_grid
from crossmod.intake.nifti.geometry import corner_distance
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.stages.context import Context
from crossmod.store.store import Store

LDN, ETZ = "crossmoda2021_ldn_1", "crossmoda2022_etz_1"
NATIVE = ("preprocess.spacing_mm=[1,2,1.5]", "preprocess.crop=[8,7]")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_cohort(tmp_path / "data")


def label(root: Path, case: str = LDN) -> Path:
    return root / SOURCE / f"{case}_Label.nii.gz"


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def told(found: Survey) -> str:
    return "\n".join(text for _, text in found.remarks)


def prepared(root: Path, made: Path, *more: str) -> Cohort:
    """The source scans on their common grid."""
    step = Planner(load_all(SMOKE, more)[0], root, survey_of(root, *more).digests).plan().source
    made.mkdir()
    step.make(Store(made.with_name("store")), Context(made))
    return Cohort.load(made)


def refused(root: Path, made: Path, *words: str, more: tuple[str, ...] = ()) -> None:
    """The survey and the step that uses the files both say it."""
    with pytest.raises(DataError) as surveyed:
        survey_of(root, *more).require()
    with pytest.raises(DataError) as used:
        prepared(root, made, *more)
    for word in words:
        assert word in str(surveyed.value)
        assert word in str(used.value)


def test_p01_a_label_map_of_another_size(root: Path, tmp_path: Path) -> None:
    write(label(root), data=LABELS[:-1])
    words = ("ldn_1_Label.nii.gz: dim: 7 x 7 x 6 voxels", "allowed: 8 x 7 x 6 voxels")
    refused(root, tmp_path / "made", *words)


@pytest.mark.parametrize("mm", [9e-4, -9e-4])
def test_p02_a_label_map_that_differs_by_float_noise(mm: float, root: Path, tmp_path: Path) -> None:
    expected = prepared(root, tmp_path / "expected").cases[0].pair()
    write(label(root), data=LABELS, affine=moved(mm))
    found = survey_of(root)
    assert (found.problems, found.remarks) == ([], [])
    pair = prepared(root, tmp_path / "made").cases[0].pair()
    np.testing.assert_array_equal(pair.labels, expected.labels)
    np.testing.assert_array_equal(pair.image.affine, expected.image.affine)


def oblique(rng: np.random.Generator, number: int) -> np.ndarray:
    """An axial scan that is nearly straight, where quaternions are uncertain, or any rotation."""
    degrees = (0.03, 0.1, 0.5, 6)[number % 4]
    turn = np.diag([-1, -1, 1]) @ Rotation.from_rotvec(rng.normal(0, degrees, 3), True).as_matrix()
    if number % 5 == 0:
        turn = Rotation.random(random_state=number).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.41, 0.41, 1.5 * (-1) ** number]
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    return affine


def lying(path: Path, affine: np.ndarray, **fields: object) -> Grid:
    """The grid of a large file, by its header."""
    return load_grid(write(path, affine=affine, dim=[3, 512, 512, 80, 1, 1, 1, 1], **fields))


def test_p02_a_label_map_that_went_through_the_quaternion_of_a_qform(tmp_path: Path) -> None:
    rng, farthest = np.random.default_rng(0), 0.0
    for number in range(400):
        affine = oblique(rng, number)
        scan = lying(tmp_path / "a.nii", affine)
        once = lying(tmp_path / "b.nii", affine, sform_code=0)
        twice = lying(tmp_path / "b.nii", once.affine, sform_code=0)
        for found in (once, twice):
            assert difference(found, scan) is None
            assert difference(scan, found) is None
            farthest = max(farthest, corner_distance(found.affine, scan.affine, scan.shape))
        shifted = Grid(scan.shape, scan.affine @ translated(0.2))
        mirrored = Grid(scan.shape, scan.affine @ np.diag([1, 1, -1, 1]))
        for other in (shifted, mirrored, Grid(scan.shape, scan.affine @ turned(0.1))):
            assert difference(other, scan) is not None
            assert difference(scan, other) is not None
    assert farthest > 0.2  # mm, half a voxel: such files are among them


def translated(voxels: float) -> np.ndarray:
    shift = np.eye(4)
    shift[0, 3] = voxels
    return shift


def turned(degrees: float) -> np.ndarray:
    """A turn of the voxel axes I and J around the first voxel, by 0.9 voxels in 512."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return turn


def test_p02_such_a_label_map_takes_the_grid_of_its_scan(root: Path, tmp_path: Path) -> None:
    affine = AFFINE @ turned(0.03)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ turned(0.03)[:3, :3] * [1, 2, 1.5]
    write(root / SOURCE / f"{LDN}_ceT1.nii.gz", data=some_data(), affine=affine)
    write(label(root), data=LABELS, affine=affine)
    expected = prepared(root, tmp_path / "expected", *NATIVE).cases[0].pair()
    write(label(root), data=LABELS, affine=affine, sform_code=0)
    found = survey_of(root)
    assert found.problems == []
    assert "Label.nii.gz: affine: up to 0.0" in told(found)
    assert "from that of the scan by the rounding of a qform; that of the scan is" in told(found)
    pair = prepared(root, tmp_path / "made", *NATIVE).cases[0].pair()
    np.testing.assert_array_equal(pair.labels, expected.labels)
    np.testing.assert_array_equal(pair.image.affine, expected.image.affine)


@pytest.mark.parametrize("mm", [0.0015, 2.0])
def test_p03_a_label_map_that_lies_elsewhere(mm: float, root: Path, tmp_path: Path) -> None:
    write(label(root), data=LABELS, affine=moved(mm))
    words = (
        f"ldn_1_Label.nii.gz: affine: lies up to {mm:.3g} mm off: [[-1.0, 0.0, 0.0, ",
        "allowed: [[-1.0, 0.0, 0.0, 5.0]",
        "intake.resample_labels = true",
    )
    refused(root, tmp_path / "made", *words)


def test_p03_resampled_if_told_to(root: Path, tmp_path: Path) -> None:
    straight = prepared(root, tmp_path / "straight", *NATIVE).cases[0].pair().labels
    write(label(root), data=LABELS, affine=moved(2))
    more = ("intake.resample_labels=true", *NATIVE)
    found = survey_of(root, *more)
    assert found.problems == []
    assert "mm off" in told(found)
    assert "; resampled" in told(found)
    labels = prepared(root, tmp_path / "made", *more).cases[0].pair().labels
    np.testing.assert_array_equal(labels[2:], straight[:-2])  # two voxels to the right


def test_p03_a_label_map_of_somewhere_else_is_not_resampled_to_nothing(
    root: Path, tmp_path: Path
) -> None:
    write(label(root), data=LABELS, affine=moved(500))
    with pytest.raises(DataError, match="grid: no label lies within the scan"):
        prepared(root, tmp_path / "made", "intake.resample_labels=true")


def test_p04_labels_that_are_whole_but_for_rounding(root: Path, tmp_path: Path) -> None:
    write(label(root), data=LABELS.astype("f8") * 1.0000001)
    found = survey_of(root)
    assert found.problems == []
    assert "ldn_1_Label.nii.gz: labels: rounded to whole numbers" in told(found)
    assert prepared(root, tmp_path / "made").cases[0].pair().labels.max() == 2


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0.5, "voxels such as 0.5"),
        (1.01, "voxels such as 1.01"),
        (-1, "values from -1 to 2"),
        (256, "values from 0 to 256"),
        (70000, "values from 0 to 70000"),
        (np.nan, "values from nan"),
        (np.inf, "to inf"),
    ],
)
def test_p04_labels_that_are_none(
    value: float, found: str, kind: str, root: Path, tmp_path: Path
) -> None:
    data = LABELS.astype(kind)
    data[2, 3, 4] = value
    write(label(root), data=data)
    words = ("ldn_1_Label.nii.gz: labels: ", found, "allowed: whole numbers from 0 to 255")
    refused(root, tmp_path / "made", *words)


@pytest.mark.parametrize(("value", "kind"), [(-1, "i2"), (70000, "i4"), (2**40, "i8")])
def test_p04_whole_numbers_that_are_no_labels(
    value: int, kind: str, root: Path, tmp_path: Path
) -> None:
    data = LABELS.astype(kind)
    data[2, 3, 4] = value
    write(label(root), data=data)
    refused(root, tmp_path / "made", "ldn_1_Label.nii.gz: labels: values from ")


def test_p04_labels_of_no_class(root: Path) -> None:
    write(label(root), data=np.where(LABELS == 1, 7, LABELS))
    write(root / "hidden" / f"{LDN[:-1]}3_Label.nii.gz", data=LABELS * 9)
    fix = "  add what belongs to a class to [data.classes]; for background, list it: data."
    expected = (
        f"{label(root)}: labels: value 7 (60 voxels) of no class\n  allowed: 0, 1, 2\n"
        f"{fix}ignore_values = [7]",
        f"{root}/hidden/{LDN[:-1]}3_Label.nii.gz: labels: values 9 (60 voxels), 18 (40 voxels) of"
        f" no class\n  allowed: 0, 1, 2\n{fix}ignore_values = [9, 18]",
    )
    assert survey_of(root).problems == list(expected)


def test_p04_values_that_are_background_on_purpose(root: Path, tmp_path: Path) -> None:
    write(label(root), data=np.where(LABELS == 1, 7, LABELS))
    found = survey_of(root, "data.ignore_values=[7]")
    assert found.problems == []
    assert told(found) == f"source: labels: 'tumor' is missing in 1 of 2 label maps: {LDN}"
    labels = prepared(root, tmp_path / "made", "data.ignore_values=[7]").cases[0].pair().labels
    assert set(np.unique(labels)) == {0, 2}


def test_p04_values_that_become_a_class(root: Path) -> None:
    write(label(root), data=np.where(LABELS == 1, 7, LABELS))
    found = survey_of(root, "data.classes.tumor=[1, 7]")
    assert (found.problems, found.remarks) == ([], [])


def test_p05_one_empty_label_map(root: Path, tmp_path: Path) -> None:
    write(label(root), data=LABELS * 0)
    found = survey_of(root)
    assert found.problems == []
    assert "ldn_1_Label.nii.gz: labels: the label map is empty" in told(found)
    assert not prepared(root, tmp_path / "made").cases[0].pair().labels.any()


@pytest.mark.parametrize(
    ("kept", "missing"),
    [(0, "'tumor' (value 1), 'cochlea' (value 2)"), (1, "'cochlea' (value 2)")],
)
def test_p05_no_label_map_holds_a_class(kept: int, missing: str, root: Path) -> None:
    for case in (LDN, ETZ):
        write(label(root, case), data=LABELS * (kept == LABELS))
    [problem] = survey_of(root).problems
    assert problem.startswith(f"source: labels: none of 2 label maps holds {missing}\n")
    assert "data.classes.cochlea = false" in problem


def test_a_pattern_of_references_that_leads_nowhere(root: Path) -> None:
    [problem] = survey_of(root, "evaluate.labels=hiden/{case}_Label.nii.gz").problems
    assert problem.startswith(
        "evaluate.labels: 'hiden/{case}_Label.nii.gz' matches no label map of a target or"
    )
    assert f"{root} holds crossmoda2022_training/, crossmoda2022_validation/, hidden/" in problem


def test_references_of_other_cases_are_no_match(root: Path) -> None:
    for path in (root / "hidden").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    assert "evaluate.labels" in survey_of(root).problems[0]


def test_label_maps_and_scans_that_changed_places(root: Path) -> None:
    scan = root / SOURCE / f"{LDN}_ceT1.nii.gz"
    before = label(root).read_bytes()
    label(root).write_bytes(scan.read_bytes())
    scan.write_bytes(before)
    problems = "\n".join(survey_of(root).problems)
    assert f"{scan}: voxels: holds only the values 0, 1, 2\n  allowed: a scan" in problems
    assert "etz" not in problems


@pytest.mark.parametrize("split", [SOURCE, TARGET])
def test_p08_one_case_in_a_domain(split: str, root: Path) -> None:
    for path in (root / split).glob(f"{ETZ[:-1]}*"):
        path.unlink()
    name = split.rpartition("_")[2]
    assert survey_of(root).problems == [f"{name}: scans: 1\n  allowed: at least 2"]


def test_p08_fewer_cases_than_folds(root: Path) -> None:
    [problem] = survey_of(root, "segment.folds=5").problems
    assert problem.startswith("source: patients: 2 ")
    assert "5 folds" in problem


def test_p08_fewer_patients_than_folds(root: Path) -> None:
    for number in (4, 5, 6):
        for ending in ("ceT1", "Label"):
            data = LABELS if ending == "Label" else some_data() + 30 + number
            write(root / SOURCE / f"{LDN[:-1]}1{number}_{ending}.nii.gz", data=data)
    more = ('data.patients="{patient}_*_*"', "segment.folds=3")
    assert any("source: patients: 2 " in text for text in survey_of(root, *more).problems)


def test_p09_a_patient_in_train_and_validation(root: Path) -> None:
    write(root / HELD_OUT / "crossmoda2021_ldn_2_hrT2.nii.gz", data=some_data() + 50)
    [problem] = survey_of(root).problems
    assert problem.startswith("validation: patients: crossmoda2021_ldn_2: also in target")


def test_p09_another_scan_of_a_patient_in_train_and_validation(root: Path) -> None:
    """By this pattern all scans of a center are of one patient."""
    problems = survey_of(root, 'data.patients="{patient}_*_*"').problems
    assert [text.partition("\n")[0] for text in problems] == [
        f"validation: patients: crossmoda2021, crossmoda2022: also in {split}"
        for split in ("source", "target")
    ]
