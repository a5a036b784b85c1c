"""Augmentation that is guided by pseudo-labeled lesions: options, choice, and place in the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from crossmod_naive_rescale import NaiveRescale, NaiveRescaleOptions
from crossmod_singan_gba import BlendGroup
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crossmod import (
    Context,
    Pair,
    PluginError,
    RecipeError,
    RescaleGroup,
    Volume,
    match_groups,
    measure,
)
from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.data.coverage import Points, Sample, figures_of, measured, wasserstein
from crossmod.data.guided import FEW, MOST, Guide, guided
from crossmod.data.lesions import Lesion
from crossmod.recipe.load import load
from crossmod.run.plan import Plan
from crossmod.run.planner import Planner
from crossmod.run.steps import Augment, ScoreStage, Step

CLASSES = {"tumor": 1, "cochlea": 2}
SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
HAND_SET = {"name": "all", "factors": (0.7, 1.2, 1.5)}
GUIDES = {
    "means": {"name": "all", "means": "guided", "first": (0.2,)},
    "factors": {"name": "all", "factors": "guided", "first": (0.7,)},
}


def energy(points: Points, real: Sample) -> float:
    """The energy distance by its definition, figures in standard deviations of the real lesions.

    Not in those that the choice counts by, so that it is not judged by its own measure.
    """
    shares = real.weights / real.weights.sum()
    mean = shares @ real.points
    scale = np.sqrt(shares @ (real.points - mean) ** 2)
    ours, theirs = points / scale, real.points / scale

    def apart(one: Points, other: Points) -> Points:
        return np.linalg.norm(one[:, None] - other[None], axis=2)

    within = apart(ours, ours).mean() + shares @ apart(theirs, theirs) @ shares
    return float(2 * (apart(ours, theirs) @ shares).mean() - within)


def lesions(rng: np.random.Generator, count: int, mean: float, spread: float) -> list[Lesion]:
    """Lesions of many sizes in surroundings of about one gray."""
    means = np.clip(rng.normal(mean, spread, count), 0.05, 0.95)
    return [
        Lesion(
            float(np.exp(rng.normal(7, 1))),
            float(one),
            float(rng.uniform(0.02, 0.1)),
            float(one - rng.normal(0.35, 0.05)),
        )
        for one in means
    ]


def sample(real: list[Lesion], *weights: float) -> Sample:
    return Sample(figures_of(real), np.array(weights or [1.0] * len(real)))


def trained_on(group: RescaleGroup, own: list[Lesion], real: Sample) -> Points:
    """Figures of the originals and of the copies that a group makes."""
    guide = Guide(real, figures_of(own))
    guide.fill(group, own)
    return guide.training


# ------------------------------------------------------------------ the choice


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(st.integers(10, 25), st.integers(10, 25)),
    own_mean=st.floats(0.2, 0.6),
    real_mean=st.floats(0.2, 0.7),
    real_spread=st.floats(0.05, 0.2),
    kind=st.sampled_from(sorted(GUIDES)),
)
def test_a_known_distribution_is_covered_better_than_by_hand_set_factors(
    seed: int,
    counts: tuple[int, int],
    own_mean: float,
    real_mean: float,
    real_spread: float,
    kind: str,
) -> None:
    """With as many copies. The translator gives all lesions about one gray, as real ones do not."""
    rng = np.random.default_rng(seed)
    own = lesions(rng, counts[0], own_mean, 0.03)
    real = sample(lesions(rng, counts[1], real_mean, real_spread))
    by_hand = trained_on(RescaleGroup(**HAND_SET), own, real)
    by_guide = trained_on(RescaleGroup(**GUIDES[kind]), own, real)
    assert len(by_guide) <= len(by_hand) == 4 * len(own)
    reached = energy(by_guide, real)
    assert reached < energy(by_hand, real)
    assert reached < energy(figures_of(own), real)


def test_means_become_those_of_the_real_lesions() -> None:
    rng = np.random.default_rng(1)
    own, real = lesions(rng, 20, 0.3, 0.03), sample(lesions(rng, 40, 0.5, 0.12))
    before = wasserstein(figures_of(own), real)["mean"]
    after = wasserstein(trained_on(RescaleGroup(**GUIDES["means"]), own, real), real)["mean"]
    # The originals, a quarter of the training, stay 0.2 away, and other figures count, too.
    assert before > 0.18
    assert after < before / 2


def test_rare_kinds_get_more_copies_and_none_gets_too_many() -> None:
    """Of ten small lesions and two large ones, where real lesions are large."""
    own = [Lesion(100.0 + n, 0.3, 0.05, 0.0) for n in range(10)]
    own += [Lesion(3000.0 + n, 0.3, 0.05, 0.0) for n in range(2)]
    real = sample([Lesion(3000.0 + n, 0.2 + 0.02 * n, 0.05, 0.1) for n in range(20)])
    group = Guide(real, figures_of(own)).fill(RescaleGroup(**GUIDES["means"], copies=3), own)
    numbers = [len(group.changes(one)) for one in own]
    assert sum(numbers) == 3 * len(own)
    assert max(numbers[10:]) == MOST * 3
    assert np.mean(numbers[:10]) < 3


def test_a_lesion_that_is_not_trusted_hardly_counts() -> None:
    own = [Lesion(1000.0 + n, 0.3, 0.05, 0.0) for n in range(10)]
    dark, bright = ([Lesion(1000.0 + n, m, 0.05, 0.0) for n in range(10)] for m in (0.2, 0.8))

    def mean_with(trust: float) -> float:
        real = sample([*dark, *bright], *[1.0] * 10, *[trust] * 10)
        return float(trained_on(RescaleGroup(**GUIDES["means"]), own, real)[10:, 0].mean())

    assert mean_with(1.0) > 0.4
    assert mean_with(0.01) < 0.25


def test_copies_of_an_earlier_group_count() -> None:
    """A list that already covers the bright half leaves the dark half to the guided group."""
    own = [Lesion(1000.0 + n, 0.5, 0.05, 0.0) for n in range(10)]
    real = sample([Lesion(1000.0 + n, m, 0.05, m - 0.5) for n in range(10) for m in (0.3, 0.7)])
    alone, after = (Guide(real, figures_of(())) for _ in range(2))
    after.fill(RescaleGroup(name="bright", means=(0.7, 0.71, 0.69)), own)
    dark = []
    for guide in (alone, after):
        group = guide.fill(RescaleGroup(**GUIDES["means"], copies=1), own)
        changes = [change for one in own for change in group.changes(one)]
        dark.append(sum(float(one.partition("-m")[2]) < 0.5 for one in changes) / len(changes))
    assert dark[0] == pytest.approx(0.5, abs=0.1)
    assert dark[1] > 0.8


# ------------------------------------------------------------------ cohorts


def pair(case: str, value: float, weight: float = 1.0, ignored: int = 0) -> Pair:
    data = np.full((1, 14, 14, 8), 0.2, np.float32)
    data += np.random.default_rng(3).normal(0, 0.01, data.shape).astype(np.float32)
    labels = np.zeros((14, 14, 8), np.uint8)
    labels[3 : 6 + ord(case[-1]) % 4, 3:8, 1:5] = 1
    labels[11, 11, 6] = 2
    data[0][labels == 1] += value - 0.2
    ignore = np.zeros(labels.shape, bool)
    ignore[:, : 3 + ignored] = bool(ignored)
    image = Volume.of(data, np.diag([0.6, 0.6, 1.0, 1.0]), case=case, center="ldn")
    return Pair(image, labels, case, weight, ignore if ignored else None)


def cohort(folder: Path, pairs: list[Pair]) -> Cohort:
    writer = CohortWriter(folder, CLASSES)
    for one in pairs:
        writer.add_pair(one)
    return writer.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    values = [0.3, 0.31, 0.32, 0.33]
    pairs = [pair(f"s{n}", value) for n, value in enumerate(values)]
    return cohort(tmp_path_factory.mktemp("own"), pairs)


def test_what_is_measured_near_a_structure_is_what_is_measured_in_all(own: Cohort) -> None:
    for one in own.pairs():
        for label in (1, 2, 3):
            assert measured(one, label) == measure(one.image, one.labels, label)


def test_a_stage_makes_the_copies_that_were_chosen(own: Cohort, tmp_path: Path) -> None:
    real = cohort(tmp_path, [pair(f"t{n}", 0.4 + 0.04 * n) for n in range(10)])
    said: list[str] = []
    options = NaiveRescaleOptions(structure="tumor", groups=[GUIDES["means"]])
    found = guided(options, own, real, CLASSES, log=said.append)
    made = list(NaiveRescale(found).augment(own.pairs(), {}, Context(tmp_path)))
    assert len(made) == 12
    for one in made:
        mean = float(one.case.partition("-m")[2])
        assert one.image.data[0][one.labels == 1].mean() == pytest.approx(mean, abs=1e-3)
        assert 0.38 < mean < 0.78
    assert said[0] == "group 'all': 12 changes for 4 lesions, guided by 10 pseudo-labeled ones"
    assert "Wasserstein-1 distance" in said[1]
    with pytest.raises(PluginError, match="met a lesion"):
        list(NaiveRescale(found).augment([pair("x", 0.7)], {}, Context(tmp_path)))


def test_trust_is_the_weight_and_what_is_not_masked(tmp_path: Path) -> None:
    pairs = [pair("t0", 0.4, weight=0.5), pair("t1", 0.4, ignored=1), pair("t2", 0.4, ignored=9)]
    found = Sample.of(cohort(tmp_path, pairs).cases, 1)
    # A fifth of the second lesion is masked; all of the third, which does not count.
    np.testing.assert_allclose(found.weights, [0.5, 0.8])


def test_without_pseudo_labels_the_first_list_stays(own: Cohort, tmp_path: Path) -> None:
    said: list[str] = []
    options = NaiveRescaleOptions(structure="tumor", groups=[GUIDES["factors"]])
    nothing = Cohort((), CLASSES)
    assert guided(options, own, nothing, CLASSES, log=said.append) == options
    assert said == [
        "warning: guided by 0 pseudo-labeled lesions only: the lists called 'first' stay"
    ]
    made = NaiveRescale(options).augment(own.pairs(), {}, Context(tmp_path))
    assert [one.case for one in made] == [f"s{n}+all-x0.7" for n in range(4)]
    few = cohort(tmp_path / "few", [pair(f"t{n}", 0.4) for n in range(FEW - 1)])
    guided(options, own, few, CLASSES, log=said.append)
    assert said[1] == f"warning: guided by {FEW - 1} pseudo-labeled lesions only"


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ({"means": "guided"}, "needs first"),
        ({"means": "guided", "first": [1.5]}, "means lie in"),
        ({"means": "guided", "factors": [0.5], "first": [0.5]}, "leave out the other"),
        ({"means": "guided", "factors": "guided", "first": [0.5]}, "leave out the other"),
        ({"means": [0.5], "copies": 2}, "copies need"),
        ({"factors": [0.5], "first": [0.5]}, "first need"),
        ({"factors": "guide", "first": [0.5]}, "should be 'guided'"),
        ({"factors": "guided", "first": [0.5], "copies": 8}, "less than or equal to 7"),
    ],
)
@pytest.mark.parametrize("kind", [RescaleGroup, BlendGroup])
def test_refused_options(kind: type[RescaleGroup], group: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        kind.model_validate({"name": "a", **group})


def test_hand_set_groups_are_written_as_before_and_guided_ones_come_back() -> None:
    written = RescaleGroup(**HAND_SET).model_dump(mode="json")
    assert set(written) == {"name", "where", "factors", "means", "texture"}
    group = BlendGroup(**GUIDES["factors"], copies=2, start_scales=[3])
    assert BlendGroup.model_validate_json(group.model_dump_json()) == group


def test_a_stage_does_not_meet_a_lesion_that_gets_no_copy(own: Cohort) -> None:
    group = RescaleGroup(**GUIDES["means"])
    pairs = list(own.pairs())
    found = {measured(one, 1): {} if n % 2 else {"all-m0.3": 0.5} for n, one in enumerate(pairs)}
    said: list[str] = []
    met = [one.case for one, *_ in match_groups(pairs, [group.given(found)], 1, said.append)]
    assert met == [one.case for one in pairs[::2]]
    assert said == [f"group 'all' matched {len(pairs)} of {len(pairs)} cases"]


def test_lesions_with_the_same_figures_get_the_same_copies() -> None:
    rng = np.random.default_rng(2)
    own = lesions(rng, 5, 0.3, 0.05)
    real = sample(lesions(rng, 20, 0.5, 0.1))
    said: list[str] = []
    group = RescaleGroup(**GUIDES["means"], copies=2)
    filled = Guide(real, figures_of(own), said.append).fill(group, [*own, *own])
    assert sum(len(filled.changes(one)) for one in own) == 10
    assert all(len(filled.changes(one)) <= 2 * MOST for one in own)
    assert said[0].startswith("group 'all': 10 changes for 5 lesions")


# ------------------------------------------------------------------ the plan

GUIDED = ['augment.tumors.groups=[{name="all", means="guided", first=[0.4]}]']
ROUNDS = ["pseudo_label.rounds=2"]


def planned(*changes: str) -> Plan:
    return Planner(load(SMOKE, changes), None).plan()


def before(step: Step) -> Iterator[Step]:
    """A step and all that it depends on."""
    yield step
    for one in step.inputs:
        yield from before(one)


def test_every_round_has_copies_of_its_own() -> None:
    plan = planned(*GUIDED, *ROUNDS)
    steps = {step.name: step for step in plan.steps}
    first, second = (steps[f"augment-tumors-round-{n}"] for n in (1, 2))
    assert isinstance(first, Augment)
    assert isinstance(second, Augment)
    assert (first.real, second.real) == (plan.rounds[0], plan.rounds[1])
    assert first.fit.key == second.fit.key == plan.copies[0].fit.key
    assert plan.copies[0] in steps["train-augmented"].inputs
    for n, copies in ((1, first), (2, second)):
        assert copies in steps[f"train-round-{n}"].inputs
        assert plan.copies[0] not in steps[f"train-round-{n}"].inputs
    assert len({plan.copies[0].key, first.key, second.key}) == 3
    # Prepared target scans have no labels; references come in by scores and the oracle alone.
    for step in before(second):
        assert not isinstance(step, ScoreStage)
        assert "oracle" not in step.name


def test_hand_set_groups_stay_as_they_are_beside_rounds() -> None:
    plan = planned(*ROUNDS)
    assert not [step for step in plan.steps if "augment" in step.name and "round" in step.name]
    assert plan.copies[0] in next(s for s in plan.steps if s.name == "train-round-2").inputs


def test_a_last_round_on_the_target_alone_needs_no_copies() -> None:
    plan = planned(*GUIDED, 'pseudo_label.last.train_on="target"')
    assert [step.name for step in plan.steps if isinstance(step, Augment)] == ["augment-tumors"]


def test_copies_are_chosen_beside_the_originals_that_stay(own: Cohort, tmp_path: Path) -> None:
    real = cohort(tmp_path, [pair(f"t{n}", 0.4 + 0.04 * n) for n in range(10)])
    options = NaiveRescaleOptions(structure="tumor", groups=[GUIDES["means"]])
    told: dict[str, str] = {}
    for name, stay in (
        ("all", None),
        ("same", own),
        ("one", own.only(lambda one: one.case == "s0")),
    ):
        said: list[str] = []
        guided(options, own, real, CLASSES, originals=stay, log=said.append)
        told[name] = said[1]
    assert told["all"] == told["same"] != told["one"]


def test_a_recipe_without_rounds_is_refused() -> None:
    with pytest.raises(RecipeError, match="guided by pseudo-labels, and the recipe makes none"):
        load(SMOKE, [*GUIDED, "pseudo_label=false"])
