"""Originals beside copies: which images stay in a training, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossmod import Context, Pair, Volume
from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.errors import DataError
from crossmod.recipe.load import load
from crossmod.run.plan import Plan
from crossmod.run.planner import Planner
from crossmod.run.record import sources
from crossmod.run.steps import Augment, Step, Train
from crossmod.store.store import Store

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
SMALL = 'augment.small={use="naive-rescale", groups=[{name="small", means=[0.3]}]}'
WITHOUT = "augment.tumors.keep_originals=false"
ROUNDS = ('augment.tumors.groups=[{name="all", means="guided", first=[0.4]}]',)


def planned(*changes: str) -> Plan:
    return Planner(load(SMOKE, changes), None).plan()


def training(plan: Plan, stage: str) -> tuple[Step, ...]:
    [step] = [s for s in plan.steps if isinstance(s, Train) and s.name == f"train-{stage}"]
    return step.labeled


def test_usually_all_originals_stay() -> None:
    plan = planned()
    assert plan.originals == []
    assert training(plan, "augmented") == (plan.translations[-1], *plan.copies)


def test_copies_of_one_augmenter_take_the_place_of_their_originals() -> None:
    plan = planned(SMALL, WITHOUT)
    [kept] = plan.originals
    assert kept.images is plan.translations[-1]
    assert [step.name for step in kept.copies] == ["augment-tumors"]
    assert training(plan, "augmented") == (kept, *plan.copies)
    assert training(plan, "round-1")[0] is kept


def test_guided_copies_know_which_originals_stay() -> None:
    for changes, originals in ((ROUNDS, "translate-sharpen"), ((*ROUNDS, WITHOUT), "originals")):
        [step] = [s for s in planned(*changes).steps if isinstance(s, Augment) and s.real]
        assert step.originals
        assert step.originals.name == originals


def test_each_round_keeps_the_originals_that_its_own_copies_leave() -> None:
    plan = planned(
        *ROUNDS, WITHOUT, SMALL, "augment.small.keep_originals=false", "pseudo_label.rounds=2"
    )
    first, *anew = plan.originals
    assert [step.name for step in anew] == ["originals-round-1", "originals-round-2"]
    for number, kept in enumerate(anew, start=1):
        stays, *copies = training(plan, f"round-{number}")[:-1]
        assert stays is kept
        assert kept.copies == tuple(copies)
        assert [step.name for step in copies] == [f"augment-tumors-round-{number}", "augment-small"]
        assert kept.images is first.images
        [guided] = [step for step in copies if isinstance(step, Augment) and step.real]
        assert guided.originals is first


def cohort(folder: Path, *names: str) -> Cohort:
    folder.mkdir(parents=True)
    writer = CohortWriter(folder, {"tumor": 1})
    for number, name in enumerate(names):
        image = np.full((1, 3, 3, 3), number / 10, np.float32)
        labels = np.ones((3, 3, 3), np.uint8)
        volume = Volume.of(image, np.eye(4), case=name)
        writer.add_pair(Pair(volume, labels, patient=name.partition("+")[0]))
    return writer.close()


def test_calibration_takes_one_translation_of_each_scan(tmp_path: Path) -> None:
    made = cohort(tmp_path / "made", "a", "a+paint-2", "a+try-2", "b", "b+paint-2", "c+d")
    assert [case.case for case in sources(made.cases)] == ["a", "b", "c+d"]


def test_too_few_pseudo_labels_to_learn_from_are_told(tmp_path: Path) -> None:
    plan = planned('pseudo_label.last.train_on="target"', "segment.folds=2")
    [step] = [s for s in plan.steps if s.name.startswith("train-round-1") and s.fold == 0]
    one = cohort(tmp_path / "one", "a", "a+2")
    with pytest.raises(DataError, match="pseudo-labels of 1 patients were kept, too few for 2"):
        step._require_cases(one)
    step._require_cases(cohort(tmp_path / "two", "a", "b"))
    [first] = [s for s in plan.steps if s.name.startswith("train-augmented") and s.fold == 0]
    first._require_cases(one)


@pytest.mark.parametrize(
    ("copies", "kept"),
    [
        ((), ["a", "a+try-2", "b"]),
        (("a+dark", "a+light"), ["a+try-2", "b"]),
        (("a+try-2+dark",), ["a", "b"]),
        (("a+dark", "a+try-2+dark", "b+dark"), []),
    ],
)
def test_images_without_a_copy_stay_as_they_are(
    copies: tuple[str, ...], kept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(WITHOUT)
    [step] = plan.originals
    folders = {step.images.key: tmp_path / "images", step.copies[0].key: tmp_path / "copies"}
    monkeypatch.setattr(Store, "path", lambda _, key: folders[key])
    images = cohort(tmp_path / "images", "a", "a+try-2", "b")
    cohort(tmp_path / "copies", *copies)
    (made := tmp_path / "made").mkdir()
    step.make(Store(tmp_path / "store"), Context(made))
    found = Cohort.load(made)
    assert [case.case for case in found.cases] == kept
    assert found.classes == images.classes
    given = {case.case: case.pair() for case in images.cases}
    for one in found.pairs():
        assert np.array_equal(one.image.data, given[one.case].image.data)
        assert np.array_equal(one.labels, given[one.case].labels)
        assert one.patient == given[one.case].patient
