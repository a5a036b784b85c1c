"""Reference labels of target scans reach scores and the oracle, and nothing that learns."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from crossmod.recipe.load import load_all
from crossmod.recipe.model import Recipe
from crossmod.run.plan import Planner
from crossmod.run.steps import DataFolder, Gate, ScoreStage, Step

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
CASES = 2


def lay_out(recipe: Recipe, root: Path) -> set[str]:
    """Files of every split, as the patterns name them; returns the reference labels."""
    data, references = recipe.data, recipe.evaluate.labels
    assert data.validation
    assert references
    unlabeled = [[data.target.images, references], [data.validation.images, references]]
    numbers, found = count(1), set[str]()
    for patterns in ([data.source.images, data.source.labels], *unlabeled):
        for center in list(data.centers.values()) * CASES:
            case = center.replace("*", str(next(numbers)))
            names = [pattern.replace("{case}", case) for pattern in patterns]
            for name in names:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name, encoding="utf-8")
            found |= {names[1]} if patterns in unlabeled else set()
    return found


def read_by(step: Step, known: dict[int, set[str]]) -> set[str]:
    """The files that a step depends on, however far back; each step is looked at once."""
    if id(step) not in known:
        own = set(step.digests) if isinstance(step, DataFolder) else set[str]()
        known[id(step)] = own.union(*(read_by(needed, known) for needed in step.inputs))
    return known[id(step)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_learner_depends_on_them(path: Path, tmp_path: Path) -> None:
    for number, checked in enumerate(load_all(path)):
        references = lay_out(checked.recipe, root := tmp_path / str(number))
        steps, known = Planner(checked, root).plan().steps, dict[int, set[str]]()
        touched = {step.name: step for step in steps if read_by(step, known) & references}
        assert any(isinstance(step, ScoreStage) for step in touched.values())
        learned = [
            name
            for name, step in touched.items()
            if not isinstance(step, ScoreStage | Gate) and "oracle" not in name.split("-")
        ]
        assert not learned, checked.label
