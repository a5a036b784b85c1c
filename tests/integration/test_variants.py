"""Variants and seeds of one recipe: shared steps run once, failures are not pursued, one table."""

from __future__ import annotations

import csv
from collections import Counter

import nibabel
import numpy as np
import pytest
from processor import rounding
from program import SMOKE, Program, Result

RECIPE = f"""\
extends = "{SMOKE}"
title = "Smoke ablation"
seeds = [2022, 1]
[evaluate]
compare = ["translated"]
splits = ["validation"]
size_limits_mm3 = [1000, 1000]
[variants.gba]
[variants.naive.augment.tumors]
use = "naive-rescale"
groups = [{{ name = "all", factors = [0.5] }}]
[variants.stopped]
evaluate.continue_above = 0.9
"""


@pytest.fixture(scope="module")
def ablation(program: Program, smoke: Result) -> Result:
    recipe = program.folder / "ablation.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    done = program(
        "run", recipe, "--out", program.folder / "ablation", "--store", program.folder / "store"
    )
    return Result(program.folder / "ablation", done.stdout)


def runs(ablation: Result) -> dict[str, Result]:
    return {
        path.parent.name: Result(path.parent, "")
        for path in sorted(ablation.folder.glob("*/events.jsonl"))
    }


def test_every_variant_and_seed_is_a_run_folder(ablation: Result) -> None:
    names = {f"{name}-seed-{seed}" for name in ("gba", "naive", "stopped") for seed in (1, 2022)}
    assert set(runs(ablation)) == names
    for run in runs(ablation).values():
        assert (run.folder / "report.html").exists()
        assert (run.folder / "recipe.lock.toml").exists()


def test_shared_steps_are_made_once(ablation: Result) -> None:
    made = Counter(step for run in runs(ablation).values() for step in run.made())
    assert made["phantom"] == made["prepare-source"] == 0  # the smoke run has made them
    # Seed 2022 has its translation from the smoke run; seed 1 makes one for three variants.
    assert made["translate-gan-fit"] == made["translate-gan"] == made["train-translated"] == 1
    assert made["augment-tumors-fit"] == 1 + 2  # SinGAN for seed 1; naive has nothing to learn
    assert made["train-augmented"] == 1 + 2
    assert made["train-round-1"] == 1 + 2
    keys = [run.keys()["translate-gan"] for run in runs(ablation).values()]
    assert len(set(keys)) == 2


def test_a_failed_translation_is_not_pursued(ablation: Result) -> None:
    stopped = runs(ablation)["stopped-seed-1"]
    assert stopped.stages() == ["translated"]
    assert list(stopped.keys())[-1] == "continue"
    assert "not worth it" in ablation.stdout


def test_one_table_in_csv_latex_terminal_and_page(ablation: Result) -> None:
    with (ablation.folder / "comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "tumor"]
    found = [(row["variant"], row["round"], row["seeds"], row["runs"]) for row in rows]
    assert found == [
        ("gba", "0", "2", "2"),
        ("gba", "1", "2", "2"),
        ("naive", "0", "2", "2"),
        ("naive", "1", "2", "2"),
        ("stopped", "0", "0", "2"),
    ]
    by_hand = [
        np.mean([float(r["dice"]) for r in runs(ablation)[f"gba-seed-{seed}"].scores()
                 if (r["stage"], r["class"]) == ("round-1", "tumor")])
        for seed in (2022, 1)
    ]  # fmt: skip
    assert float(rows[1]["dice_mean"]) == pytest.approx(np.mean(by_hand))
    assert float(rows[1]["dice_seeds_sd"]) == pytest.approx(np.std(by_hand, ddof=1))
    assert (ablation.folder / "comparison.tex").read_text(encoding="utf-8").count("tabular") == 4
    assert "naive" in (ablation.folder / "report.html").read_text(encoding="utf-8")
    assert "tumor, validation split" in ablation.stdout


def test_dry_run_counts_what_is_shared(program: Program, ablation: Result) -> None:
    # What the finished runs took answers for all but one seed more; little is left to probe.
    arguments = ["--store", program.folder / "store", "--set", "seeds=[5]", "--dry-run"]
    shown = program("run", program.folder / "ablation.toml", *arguments).stdout
    assert "shared with gba-seed-5" in shown
    assert "Steps: " in shown


LAST = (
    'pseudo_label.last={train_on="target", preprocess={spacing_mm=[1.2,1.2,1.2], crop=[90,60]},'
    " segment={iterations=2}}"
)


def test_the_last_round_may_have_a_grid_of_its_own(program: Program, smoke: Result) -> None:
    result = program.run("fine", "--set", "pseudo_label.rounds=2", "--set", LAST)
    assert result.stages()[-1] == "round-2"
    [image] = sorted(result.folder.glob("*-regrid-2/images"))
    paths = sorted(image.glob("*.nii"))
    assert paths
    for path in paths:
        np.testing.assert_allclose(nibabel.load(path).header.get_zooms(), 1.2, rtol=rounding(8))
        labels = nibabel.load(path.parents[1] / "labels" / path.name)
        assert labels.shape == nibabel.load(path).shape
        assert set(np.unique(labels.dataobj)) <= {0, 1, 2}


def test_a_warm_start_goes_on_and_refuses_another_network(program: Program, smoke: Result) -> None:
    warm = ["--set", "pseudo_label.warm_start=true"]
    cold, result = smoke.keys(), program.run("warm", *warm)
    assert result.made()[0] == "train-round-1"  # everything before is what it was
    assert result.keys()["train-augmented"] == cold["train-augmented"]
    other = ["--set", "pseudo_label.last.segment.base_channels=6"]
    failed = program(
        "run", SMOKE, "--out", program.folder / "w", "--store", program.folder / "store",
        *warm, *other, code=2,
    )  # fmt: skip
    assert "cannot start from the weights of the previous round" in failed.stderr


def test_classes_may_be_fewer_than_the_files_hold(program: Program, smoke: Result) -> None:
    settings = ["--set", "data.classes.tumor=false", "--set", "augment=false"]
    result = program.run(
        "cochlea", *settings, "--set", "pseudo_label=false", "--set", "evaluate.compare=[]",
        "--set", "evaluate.structure=cochlea", "--set", "segment.largest_component=[]",
    )  # fmt: skip
    assert {row["class"] for row in result.scores()} == {"cochlea"}
    for path in result.folder.glob("*-predict-translated-*/labels/*.nii.gz"):
        assert set(np.unique(nibabel.load(path).dataobj)) <= {0, 2}
