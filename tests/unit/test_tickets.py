"""Translators are judged without labels of the target, and collapsed ones are never sound."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from heads import cohort, dark, moved, shown, tumor_erased

from crossmod import Cohort
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.run.steps import Choose, Judge
from crossmod.run.steps.lottery import told
from crossmod.scores.recovery import recover
from crossmod.scores.tickets import FIGURES, Judgment, Ticket, compared, judge


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("source"), shown, count=6)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Other patients in the target modality."""
    return cohort(tmp_path_factory.mktemp("target"), dark, count=4, first=50)


@pytest.fixture(scope="module")
def faithful(source, target, tmp_path_factory):
    translated = cohort(tmp_path_factory.mktemp("faithful"), dark, count=6)
    return translated, judge(source, translated, target)


@pytest.fixture(scope="module")
def also_faithful(source, target, tmp_path_factory):
    """Another try, which is a little brighter."""
    made = cohort(
        tmp_path_factory.mktemp("other"), lambda *given: 0.05 + 0.95 * dark(*given), count=6
    )
    return judge(source, made, target)


def flat(head, labels):
    return np.full(head.shape, 0.5)


def alike(head, labels):
    return 1 - head.mean() + 0 * head + 0.3 * np.indices(head.shape)[0] / len(head)


def drawn_over(head, labels):
    return np.random.default_rng(int(1e6 * head.std())).random(head.shape)


def test_a_faithful_translator_scores_well(faithful):
    found = faithful[1].judgment
    assert set(found.figures) == set(FIGURES) - {"consensus"}
    assert found.fault == ""
    assert found.score > 0.6, found
    assert found.figures["place"] > 0.9
    assert {"recovery_tumor", "agreement_cochlea", "volume_ratio_tumor"} <= set(found.details)


@pytest.mark.parametrize(
    ("worse", "figure"), [(tumor_erased, "survival"), (moved, "place"), (shown, "likeness")]
)
def test_what_goes_wrong_has_a_figure_and_costs_score(
    source, target, faithful, also_faithful, tmp_path, worse, figure
):
    """A tumor drawn over, anatomy moved, nothing translated; beside two tries that are right."""
    bad = judge(source, cohort(tmp_path, worse, count=6), target)
    first, other, found = compared([faithful[1], also_faithful, bad])
    assert found.score < min(first.score, other.score) - 0.05, found
    assert found.figures[figure] < first.figures[figure] - 0.1, found


def outlined(*marks):
    """A sound ticket that outlines the marked places of one structure in one scan."""
    return Ticket(Judgment({"agreement": 0.81}, {}), np.isin(np.arange(8), marks)[None, :, None])


def test_consensus_is_the_mean_dice_with_the_others():
    ruin = Ticket(Judgment({"agreement": 1.0}, {}, "collapsed"), outlined(5, 6).outlines)
    found = compared([outlined(0, 1), outlined(1, 2), outlined(), ruin])
    consensus = [one.figures.get("consensus") for one in found]
    assert consensus == [pytest.approx(0.25), pytest.approx(0.25), 0.0, None]
    assert found[0].score == pytest.approx(0.45)
    assert (found[2].score, found[3].score) == (0.0, 0.0)


def test_a_try_alone_has_no_consensus():
    [alone] = compared([outlined(0, 1)])
    assert alone.figures == {"agreement": 0.81}
    assert alone.score == pytest.approx(0.81)


@pytest.mark.parametrize("collapsed", [flat, alike, drawn_over])
def test_a_collapsed_translator_is_not_sound(source, target, tmp_path, collapsed):
    found = judge(source, cohort(tmp_path, collapsed, count=6), target).judgment
    assert found.fault.startswith("collapsed"), found
    assert found.score == 0


def test_labels_of_the_target_are_not_looked_at(source, target, faithful, tmp_path):
    """Wrong ones change no digit, nor do missing files of them."""
    folder = target.cases[0].image.parents[1]
    shutil.copytree(folder, tmp_path / "planted")
    for file in (tmp_path / "planted" / "labels").iterdir():
        file.write_bytes(b"wrong")
    found = judge(source, faithful[0], Cohort.load(tmp_path / "planted"))
    assert found.judgment == faithful[1].judgment
    np.testing.assert_array_equal(found.outlines, faithful[1].outlines)


def test_one_patient_is_too_few_to_judge(target, tmp_path):
    one = cohort(tmp_path / "a", shown, count=1)
    found = judge(one, cohort(tmp_path / "b", dark, count=1), target)
    assert set(found.judgment.figures) == {"place"}
    assert found.outlines is None


def test_cases_may_differ_in_their_number_of_slices(source, tmp_path):
    """Slices beyond those that all have are left out."""
    shallow = cohort(tmp_path / "few", shown, count=2, first=60, depth=14)
    both = Cohort((*source.cases[2:], *shallow.cases), source.classes)
    assert len({case for case, _ in recover(both)}) == len(both)


def test_the_line_names_what_is_used_and_why_others_are_not():
    judged = [Judgment({"place": 0.81}, {}), Judgment({}, {}, "collapsed: all alike")]
    assert told(judged, [0]) == "try 1 of 2 used, scores 1: 0.81, 2: not used, collapsed: all alike"
    assert told(judged[1:] * 2, []).startswith("warning: none of 2 tries is sound")


def plan_of(path, root=None, *settings):
    [checked] = load_all(path, settings)
    return Planner(checked, root).plan()


SMOKE = "recipes/smoke.toml"


def test_the_first_try_is_what_a_single_training_is(pytestconfig):
    """The store of a recipe without tries is used again; nothing else is trained twice."""
    path = pytestconfig.rootpath / SMOKE
    plain, three = plan_of(path), plan_of(path, None, "translate.gan.tries=3")
    keys = {step.key for step in plain.steps}
    new = [step.name for step in three.steps if step.key not in keys]
    first = {"translate-gan-try-1-fit", "translate-gan-try-1"}
    assert first <= {step.name for step in three.steps}
    assert not first & set(new)
    assert sum(name.endswith("-fit") for name in new) == 4  # two tries, and what builds on them
    assert plan_of(path, None, "translate.gan.tries=1").translations[0].key in keys
    seeds = [step.seed for step in three.choices[0].tries]
    assert len(set(seeds)) == 3
    assert seeds[0] == plain.checked.recipe.seed


def test_wrong_hidden_labels_change_no_choice(pytestconfig, tmp_path):
    """What is chosen depends on no file that the recipe only scores with."""
    names = ("training_source/{}_ceT1", "training_source/{}_Label", "training_target/{}_hrT2")
    files = [f"crossmoda2022_training/{name}.nii.gz" for name in names]
    files += ["crossmoda2022_validation/validation/{}_hrT2.nii.gz", "hidden/{}_Label.nii.gz"]
    found = []
    for hidden in (b"right", b"wrong"):
        root = tmp_path / hidden.decode()
        for name in files:
            file = root / name.format("crossmoda2021_ldn_1")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(hidden if "hidden" in name else b"scan")
        plan = plan_of(pytestconfig.rootpath / SMOKE, root, "translate.gan.tries=2")
        found.append(plan)
    right, wrong = found
    assert [step.key for step in right.scores] != [step.key for step in wrong.scores]
    kinds = (Judge, Choose)
    keys = [[step.key for step in plan.steps if isinstance(step, kinds)] for plan in found]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 3
