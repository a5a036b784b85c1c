"""No step learns from label maps of target scans, over all shipped recipes.

The one exception is the oracle: a segmenter trained on them, to compare with. It feeds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from crossmod import FitOn
from crossmod.recipe.load import load_all
from crossmod.recipe.model import Recipe
from crossmod.run.plan import Plan
from crossmod.run.planner import Planner
from crossmod.run.steps import Fit, Predict, ScoreStage, Step, Train

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

EVERYTHING = ('evaluate.compare=["oracle", "no-adaptation", "translated"]',
              'evaluate.splits=["target", "validation"]',
              "evaluate.continue_above=0.2")  # fmt: skip
"""Whatever a recipe may ask of target labels."""

HELD_OUT = 'evaluate.labels="hidden/{case}_Label.nii.gz"'


def with_files(recipe: Recipe, root: Path) -> Path:
    """A data folder with a few files of each kind that a recipe names; a plan reads names alone."""
    data, number = recipe.data, 0
    for split in (data.source, data.target, data.validation):
        for center in data.centers.values() if split else ():
            number += 1
            labels = getattr(split, "labels", recipe.evaluate.labels)
            for pattern in filter(None, (split.images if split else None, labels)):
                path = root / pattern.replace("{case}", center.replace("*", str(number)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
    return root


def plans_of(path: Path, root: Path | None, *settings: str) -> list[Plan]:
    """Every variant and seed."""
    found = load_all(path, settings)
    digests: dict[Path, str] = {}
    folder = None if root is None else with_files(found[0].recipe, root)
    return [Planner(one, folder, digests).plan() for one in found]


def following(plan: Plan, first: Iterable[Step]) -> list[Step]:
    """Some steps, and all that read a result of theirs, however many steps lie between."""
    found = {step.key: step for step in first}
    for step in plan.steps:  # inputs come before what needs them
        if any(needed.key in found for needed in step.inputs):
            found[step.key] = step
    return list(found.values())


def knowing(plan: Plan) -> list[Step]:
    """The steps whose results depend on label maps of target scans."""
    labels = plan.scores[0].labels
    return following(plan, [step for step in plan.steps if step.settings.get("labels") == labels])


def check(plan: Plan) -> None:
    known = knowing(plan)
    learners = [step for step in known if step.is_learner]
    assert all(step.name.startswith("train-oracle") for step in learners)
    after = [step for step in following(plan, learners) if step not in learners]
    assert all(isinstance(step, Predict | ScoreStage) for step in after)
    fed = {step.key for step in [*learners, *after]}
    rest = {step.name for step in known if step.key not in fed}
    scores = {step.name for step in plan.scores}
    assert rest <= {*scores, "prepare-oracle", "continue"}, "nothing else may know them"


@pytest.mark.parametrize("settings", [(), EVERYTHING], ids=["as shipped", "all comparisons"])
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_nothing_but_the_oracle_learns_from_labels_of_the_target(
    path: Path, settings: tuple[str, ...], tmp_path: Path
) -> None:
    plans = plans_of(path, tmp_path, *settings, HELD_OUT)
    if load_all(path)[0].recipe.data.phantom is not None:
        plans += plans_of(path, None, *settings)
    for plan in plans:
        assert plan.scores, "references were not found"
        check(plan)
    if settings:  # else this test would not see what it is about; a variant may compare nothing
        wanted = {"prepare-oracle", "predict-oracle-target", "continue"}
        assert any(wanted <= {step.name for step in plan.steps} for plan in plans)


@pytest.mark.parametrize("use", ["best", "all"])
def test_no_try_of_a_translator_is_judged_by_labels_of_the_target(use: str, tmp_path: Path) -> None:
    tries = ("translate.gan.tries=3", f"translate.gan.use_tries={use}")
    smoke = next(path for path in RECIPES if path.stem == "smoke")
    [plan] = plans_of(smoke, tmp_path, *EVERYTHING, HELD_OUT, *tries)
    check(plan)
    assert len(plan.choices[0].judged) == 3


@pytest.mark.parametrize("leak", ["segmenter", "translator"])
def test_a_leak_is_seen(leak: str, tmp_path: Path) -> None:
    plan = plans_of(RECIPES[0], tmp_path, *EVERYTHING, HELD_OUT)[0]
    check(plan)
    oracle = next(step for step in plan.steps if step.name == "prepare-oracle")
    train = next(step for step in plan.steps if isinstance(step, Train))
    if leak == "segmenter":
        plan.steps.append(Train(name="train-x", use=train.use, labeled=(oracle,), fold=0, folds=1))
    else:
        fit = Fit(name="x-fit", use=train.use, labeled=(), target=oracle, fit_on=FitOn())
        plan.steps.append(fit)
    with pytest.raises(AssertionError):
        check(plan)
