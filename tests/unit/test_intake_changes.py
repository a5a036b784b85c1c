"""Data folders that change between the intake and the steps that use them: row N24."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from nifti_files import AFFINE, HELD_OUT, SMOKE, SOURCE, TARGET, small_cohort, some_data, write
from nifti_files import survey_of as survey

from crossmod import Cohort, DataError
from crossmod.data.volumes import write_nifti
from crossmod.recipe.load import load_all
from crossmod.run.plan import Planner
from crossmod.run.scans import Scans
from crossmod.run.steps import Prepare, ScoreStage, Step
from crossmod.run.steps.files import label_map
from crossmod.stages.base import Context

CASES = ("crossmoda2021_ldn_3", "crossmoda2022_etz_3")
LABELS = 'evaluate.labels="hidden/{case}_Label.nii.gz"'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_cohort(tmp_path / "data")


def prepare(root: Path, split: str) -> Prepare:
    data = load_all(SMOKE)[0].recipe.data
    images, labels = {
        "source": (data.source.images, data.source.labels),
        "target": (data.target.images, None),
    }[split]
    scans = Scans(load_all(SMOKE)[0].recipe, root, survey(root).digests)
    return scans.prepare(split, images, labels)


def make(step: Step, folder_of: Callable[[Step], Path], made: Path) -> Path:
    made.mkdir(exist_ok=True)
    step.make(folder_of, Context(made))
    return made


@pytest.mark.parametrize(
    ("split", "gone"),
    [
        ("target", f"{TARGET}/crossmoda2022_etz_2_hrT2.nii.gz"),
        ("source", f"{SOURCE}/crossmoda2022_etz_1_ceT1.nii.gz"),
        ("source", f"{SOURCE}/crossmoda2022_etz_1_Label.nii.gz"),
    ],
)
def test_n24_a_file_that_goes(split: str, gone: str, root: Path, tmp_path: Path) -> None:
    step = prepare(root, split)
    (root / gone).unlink()
    with pytest.raises(DataError, match=rf"{Path(gone).name}: changed since the intake"):
        make(step, lambda step: root, tmp_path / "made")
    assert not (tmp_path / "made" / "cohort.json").exists()


def test_n24_a_scan_with_its_label_map_that_goes(root: Path, tmp_path: Path) -> None:
    step = prepare(root, "source")
    for ending in ("ceT1", "Label"):
        (root / SOURCE / f"crossmoda2022_etz_1_{ending}.nii.gz").unlink()
    with pytest.raises(DataError, match="changed since the intake"):
        make(step, lambda step: root, tmp_path / "made")


def test_n24_a_file_that_comes(root: Path, tmp_path: Path) -> None:
    step = prepare(root, "target")
    write(root / TARGET / "crossmoda2022_etz_9_hrT2.nii.gz", data=some_data() + 50)
    with pytest.raises(DataError, match=r"etz_9_hrT2\.nii\.gz: changed since the intake"):
        make(step, lambda step: root, tmp_path / "made")


def test_n24_what_no_pattern_is_of_may_come(root: Path, tmp_path: Path) -> None:
    step = prepare(root, "target")
    for name in ("notes.txt", "._crossmoda2022_etz_2_hrT2.nii.gz", "x_ceT1.nii.gz"):
        (root / TARGET / name).write_bytes(b"x")
    assert len(Cohort.load(make(step, lambda step: root, tmp_path / "made"))) == 2


def reference(root: Path, case: str) -> Path:
    path = root / "hidden" / f"{case}_Label.nii.gz"
    path.parent.mkdir(exist_ok=True)
    return write(path, data=(some_data() > 80).astype("u1"))


def score_step(
    root: Path, predictions: Path, scored: Sequence[str] = CASES
) -> tuple[ScoreStage, Callable[[Step], Path]]:
    """The first step that scores validation scans, and where its inputs lie."""
    labels = (some_data() > 80).astype("u1")
    for case in scored:
        reference(root, case)
    for case in CASES:
        write_nifti(label_map(predictions, case), labels, AFFINE)
    plan = Planner(load_all(SMOKE, (LABELS,))[0], root, survey(root, LABELS).digests).plan()
    step = next(step for step in plan.scores if step.split == "validation")
    own = (step.data, step.predictions.images.data)
    return step, lambda asked: root if asked in own else predictions


def test_n24_a_reference_that_goes(root: Path, tmp_path: Path) -> None:
    step, folder_of = score_step(root, tmp_path / "predictions")
    scores = make(step, folder_of, tmp_path / "made") / "metrics.csv"
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(CASES)
    (root / "hidden" / f"{CASES[0]}_Label.nii.gz").unlink()
    with pytest.raises(DataError, match=f"{CASES[0]}_Label.nii.gz: content: changed since"):
        make(step, folder_of, tmp_path / "made")


def test_n24_a_scored_scan_that_goes(root: Path, tmp_path: Path) -> None:
    step, folder_of = score_step(root, tmp_path / "predictions")
    (root / HELD_OUT / f"{CASES[0]}_hrT2.nii.gz").unlink()
    with pytest.raises(DataError, match="changed since the intake"):
        make(step, folder_of, tmp_path / "made")


def test_n24_a_reference_that_comes_is_not_scored(root: Path, tmp_path: Path) -> None:
    """The key of the step does not know it."""
    step, folder_of = score_step(root, tmp_path / "predictions", CASES[:1])
    reference(root, CASES[1])
    scores = (make(step, folder_of, tmp_path / "made") / "metrics.csv").read_text(encoding="utf-8")
    assert CASES[0] in scores
    assert CASES[1] not in scores
