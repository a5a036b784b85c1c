"""The challenge recipes on a folder of CrossMoDA's shape, scaled down by `--set` alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from program import ROOT, Program, Result

from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner

RECIPE = ROOT / "recipes" / "crossmoda2022.toml"
JOURNAL = ROOT / "recipes" / "crossmoda2022-journal.toml"
ABLATION = ROOT / "recipes" / "crossmoda2022-ablation.toml"

SMALL = {
    "evaluate.labels": '"hidden/{case}_Label.nii.gz"',
    "preprocess.spacing_mm": "[1.5, 1.5, 1.5]",
    "preprocess.crop": "[72, 48]",
    "translate.gan.iterations": "2",
    "translate.gan.base_channels": "4",
    "translate.gan.blocks": "1",
    "translate.gan.discriminator_channels": "4",
    "augment.tumors.iterations": "2",
    "augment.tumors.width": "4",
    "augment.tumors.start_scales": "[2, 3]",
    "segment.iterations": "2",
    "segment.base_channels": "4",
    "segment.patch": "[32, 32, 16]",
    "segment.folds": "2",
    "segment.mirror_predictions": "false",
}
GROUPS = """[
  {name="large-heterogeneous", where={center="etz", volume_mm3={above=500}}, factors=[0.7, 1.5]},
  {name="small", where={volume_mm3={below=5000}}, factors=[0.8]},
]"""
ROUNDS = {
    "pseudo_label.rounds": "2",
    "pseudo_label.keep_empty": "true",  # two steps of training find nothing
    "pseudo_label.last.segment": "{iterations=2}",
}
FINER = {"pseudo_label.last.preprocess": "{spacing_mm=[1.2, 1.2, 1.2], crop=[90, 60]}"}


def settings(values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def cohort(program: Program) -> Path:
    """A CrossMoDA 2022 folder that no recipe was made for."""
    folder = program.folder / "challenge"
    counts = ["--source", "4", "--target", "2", "--validation", "2", "--seed", "77"]
    program("data", "phantom", folder, *counts)
    return folder


@pytest.fixture(scope="module")
def submitted(program: Program, cohort: Path) -> Result:
    values = {**SMALL, **ROUNDS, **FINER, "augment.tumors.groups": GROUPS}
    return program.run("submitted", "--data", cohort, *settings(values), recipe=RECIPE)


def test_the_submitted_method_runs_to_its_end(submitted: Result) -> None:
    assert submitted.stages() == ["augmented", "round-1", "round-2"]
    assert {row["class"] for row in submitted.scores()} == {"tumor"}
    assert {row["split"] for row in submitted.scores()} == {"validation"}
    made = submitted.made()
    assert sorted(step for step in made if step.startswith("train-round-2")) == [
        "train-round-2-fold-1",
        "train-round-2-fold-2",
    ]
    assert {"prepare-target-last", "prepare-validation-last", "regrid-2"} <= set(made)
    assert "predict-round-2-target" not in made  # nothing learns from it
    copies = list(submitted.folder.glob("*-augment-tumors/images/*.nii"))
    assert copies
    assert len(copies) % 2 == 0  # two start scales


def test_the_journal_shares_everything_before_the_last_round(
    program: Program, submitted: Result, cohort: Path
) -> None:
    values = {**SMALL, **ROUNDS, "augment.tumors.groups": GROUPS}
    result = program.run("journal", "--data", cohort, *settings(values), recipe=JOURNAL)
    assert result.stages() == submitted.stages()
    assert {step.rsplit("-fold", 1)[0] for step in result.made()} == {
        "train-round-2",
        "predict-round-2-validation",
        "score-round-2-validation",
    }


def test_the_ablation_shares_what_variants_have_in_common(cohort: Path) -> None:
    digests: dict[str, dict[str, str]] = {}
    plans = [Planner(one, cohort, digests).plan() for one in load_all(ABLATION, ())]
    steps = Counter(name for name, _ in {(s.name, s.key) for plan in plans for s in plan.steps})
    assert steps["prepare-source"] == 1
    assert steps["translate-gan-fit"] == steps["translate-gan"] == 3 * 3
    assert steps["augment-tumors-fit"] == 3 * 3 * 2
    assert steps["train-translated-fold-1"] == 3 * 3  # also the gate of the naive and GBA variants
    assert steps["train-augmented-fold-5"] == 3 * 3 * 2
    assert steps["train-round-3-fold-5"] == 3 * 3 * 3
