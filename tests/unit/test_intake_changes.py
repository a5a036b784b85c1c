"""Data folders that change between the intake and the steps that use them: row N24."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from nifti_files import AFFINE, HELD_OUT, SMOKE, SOURCE, TARGET, small_cohort, some_data, write
from nifti_files import survey_of as survey

from crossmod import Cohort, DataError
from crossmod.data.nifti import write_nifti
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.run.steps import Prepare, ScoreStage, Step, label_map
from crossmod.stages.context import Context
from crossmod.store.store import Store

CASES = ("crossmoda2021_ldn_3", "crossmoda2022_etz_3")
LABELS = 'evaluate.labels="hidden/{case}_Label.nii.gz"'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_cohort(tmp_path / "data")


def prepare(root: Path, split: str) -> Prepare:
    plan = Planner(load_all(SMOKE)[0], root, survey(root).digests).plan()
    return {"source": plan.source, "target": plan.target}[split]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(step: Step, store: Store, made: Path) -> Path:
    made.mkdir(exist_ok=True)
    step.make(store, Context(made))
    return made


@pytest.mark.parametrize(
    ("split", "gone"),
    [
        ("target", f"{TARGET}/crossmoda2022_etz_2_hrT2.nii.gz"),
        ("source", f"{SOURCE}/crossmoda2022_etz_1_ceT1.nii.gz"),
        ("source", f"{SOURCE}/crossmoda2022_etz_1_Label.nii.gz"),
    ],
)
def test_n24_a_file_that_goes(
    split: str, gone: str, root: Path, store: Store, tmp_path: Path
) -> None:
    step = prepare(root, split)
    (root / gone).unlink()
    with pytest.raises(DataError, match=rf"{Path(gone).name}: changed since the intake"):
        make(step, store, tmp_path / "made")
    assert not (tmp_path / "made" / "cohort.json").exists()


def test_n24_a_scan_with_its_label_map_that_goes(root: Path, store: Store, tmp_path: Path) -> None:
    step = prepare(root, "source")
    for ending in ("ceT1", "Label"):
        (root / SOURCE / f"crossmoda2022_etz_1_{ending}.nii.gz").unlink()
    with pytest.raises(DataError, match="changed since the intake"):
        make(step, store, tmp_path / "made")


def test_n24_a_file_that_comes(root: Path, store: Store, tmp_path: Path) -> None:
    step = prepare(root, "target")
    write(root / TARGET / "crossmoda2022_etz_9_hrT2.nii.gz", data=some_data() + 50)
    with pytest.raises(DataError, match=r"etz_9_hrT2\.nii\.gz: changed since the intake"):
        make(step, store, tmp_path / "made")


def test_n24_what_no_pattern_is_of_may_come(root: Path, store: Store, tmp_path: Path) -> None:
    step = prepare(root, "target")
    for name in ("notes.txt", "._crossmoda2022_etz_2_hrT2.nii.gz", "x_ceT1.nii.gz"):
        (root / TARGET / name).write_bytes(b"x")
    assert len(Cohort.load(make(step, store, tmp_path / "made"))) == 2


def reference(root: Path, case: str) -> Path:
    path = root / "hidden" / f"{case}_Label.nii.gz"
    path.parent.mkdir(exist_ok=True)
    return write(path, data=(some_data() > 80).astype("u1"))


def score_step(root: Path, store: Store, scored: Sequence[str] = CASES) -> ScoreStage:
    """The first step that scores validation scans; what it scores is in the store."""
    labels = (some_data() > 80).astype("u1")
    for path in (root / "hidden").iterdir():
        path.unlink()
    for case in scored:
        reference(root, case)
    plan = Planner(load_all(SMOKE, (LABELS,))[0], root, survey(root, LABELS).digests).plan()
    step = next(step for step in plan.scores if step.split == "validation")
    for case in CASES:
        write_nifti(label_map(step.predictions.folder(store), case), labels, AFFINE)
    return step


def test_n24_a_reference_that_goes(root: Path, store: Store, tmp_path: Path) -> None:
    step = score_step(root, store)
    scores = make(step, store, tmp_path / "made") / "metrics.csv"
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(CASES)
    (root / "hidden" / f"{CASES[0]}_Label.nii.gz").unlink()
    with pytest.raises(DataError, match=f"{CASES[0]}_Label.nii.gz: content: changed since"):
        make(step, store, tmp_path / "made")


def test_n24_a_scored_scan_that_goes(root: Path, store: Store, tmp_path: Path) -> None:
    step = score_step(root, store)
    (root / HELD_OUT / f"{CASES[0]}_hrT2.nii.gz").unlink()
    with pytest.raises(DataError, match="changed since the intake"):
        make(step, store, tmp_path / "made")


def test_n24_a_reference_that_comes_is_not_scored(root: Path, store: Store, tmp_path: Path) -> None:
    """The key of the step does not know it."""
    step = score_step(root, store, CASES[:1])
    reference(root, CASES[1])
    scores = (make(step, store, tmp_path / "made") / "metrics.csv").read_text(encoding="utf-8")
    assert CASES[0] in scores
    assert CASES[1] not in scores
