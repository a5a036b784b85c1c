"""Variants and seeds of one recipe: shared steps run once, failures are not pursued, one table."""

from __future__ import annotations

import json
from collections import Counter

import nibabel
import numpy as np
import pytest
from processor import rounding
from program import Result
from sheets import rows_of
from tiny import Tiny, begun, settings

from crossmod import open_run

RECIPE = """\
extends = "tiny.toml"
title = "Tiny ablation"
seeds = [2022, 1]
[evaluate]
compare = ["translated"]
splits = ["validation"]
size_limits_mm3 = [1000, 1000]
[variants.gba]
[variants.naive.augment.tumors]
use = "naive-rescale"
groups = [{ name = "all", factors = [0.5] }]
[variants.stopped]
evaluate.continue_above = 0.9
"""


@pytest.fixture(scope="module")
def tried(undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A folder of the recipe with variants, which has been run there."""
    tiny = begun(undisturbed, tmp_path_factory.mktemp("tried") / "tiny")
    (tiny.folder / "ablation.toml").write_text(RECIPE, encoding="utf-8")
    return tiny


@pytest.fixture(scope="module")
def ablation(tried: Tiny) -> Result:
    done = tried("run", "ablation.toml", "--profile", "profile.toml")
    return Result(tried.folder / "runs" / "ablation", done.stdout)


def runs(ablation: Result) -> dict[str, Result]:
    return {
        path.parent.name: Result(path.parent, "")
        for path in sorted(ablation.folder.glob("*/events.jsonl"))
    }


def test_every_variant_and_seed_is_a_run_folder(ablation: Result) -> None:
    names = {f"{name}-seed-{seed}" for name in ("gba", "naive", "stopped") for seed in (1, 2022)}
    assert set(runs(ablation)) == set(open_run(ablation.folder).runs) == names
    for run in runs(ablation).values():
        assert (run.folder / "report.html").exists()
        assert (run.folder / "recipe.lock.toml").exists()


def test_shared_steps_are_made_once(ablation: Result) -> None:
    made = Counter(step for run in runs(ablation).values() for step in run.made())
    assert made["phantom"] == made["prepare-source"] == 0  # the finished run has made them
    # Seed 2022 has its translation from that run; seed 1 makes one for three variants.
    assert made["translate-gan-fit"] == made["translate-gan"] == 1
    assert made["train-translated"] == 2  # that run did not compare it
    assert made["augment-tumors-fit"] == 1 + 2  # SinGAN for seed 1; naive has nothing to learn
    assert made["train-augmented"] == 1 + 2
    assert made["train-round-1"] == 1 + 2
    keys = [run.keys()["translate-gan"] for run in runs(ablation).values()]
    assert len(set(keys)) == 2


def test_a_failed_translation_is_not_pursued(ablation: Result) -> None:
    stopped = runs(ablation)["stopped-seed-1"]
    assert stopped.stages() == ["translated"]
    assert list(stopped.keys())[-1] == "continue"
    assert "gate not passed" in ablation.stdout


def test_a_run_that_ended_early_gives_its_last_stage(tried: Tiny, ablation: Result) -> None:
    stopped = runs(ablation)["stopped-seed-1"].folder
    assert "stage translated, 1 fold" in tried("package", stopped, "of-stopped").stdout


def test_the_folder_of_variants_names_its_runs(tried: Tiny, ablation: Result) -> None:
    refused = tried("package", ablation.folder, "of-all", code=3).stderr
    assert "holds several runs" in refused
    for run in runs(ablation).values():
        assert str(run.folder) in refused
    tried("package", runs(ablation)["naive-seed-1"].folder, "of-naive")


def test_one_table_in_csv_latex_terminal_and_page(ablation: Result) -> None:
    rows = [row for row in rows_of(ablation.folder / "comparison.csv") if row["class"] == "tumor"]
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
    assert (ablation.folder / "comparison.tex").read_text(encoding="utf-8").count("tabular") == 8
    assert "naive" in (ablation.folder / "report.html").read_text(encoding="utf-8")
    assert "tumor, validation split" in ablation.stdout


def test_its_runs_are_compared_as_those_of_any_recipes(tried: Tiny, ablation: Result) -> None:
    folders = [f"runs/ablation/{name}" for name in ("naive-seed-1", "stopped-seed-1")]
    named = [f"gba=runs/ablation/gba-seed-{seed}" for seed in (1, 2022)]
    shown = tried.as_installed("compare", *named, *folders, "--out", "compared").stdout
    assert "tumor: paired differences of Dice, validation scans" in shown
    rows = [
        row
        for row in rows_of(tried.folder / "compared" / "comparison.csv")
        if row["class"] == "tumor"
    ]
    assert [(row["variant"], row["round"], row["seeds"]) for row in rows] == [
        ("gba", "0", "2"),
        ("gba", "1", "2"),
        ("naive-seed-1", "0", "1"),
        ("naive-seed-1", "1", "1"),
        ("stopped-seed-1", "0", "0"),
    ]
    assert rows_of(ablation.folder / "comparison.csv")[0]["dice_mean"] == rows[0]["dice_mean"]
    facts = json.loads((ablation.folder / "gba-seed-1" / "run.json").read_text(encoding="utf-8"))
    references = facts["references"]["validation"]
    assert set(references) == {score["case"] for score in runs(ablation)["gba-seed-1"].scores()}
    assert all(len(digest) == 64 for digest in references.values())
    figures = {path.suffix for path in (tried.folder / "compared" / "figures").glob("[!.]*")}
    assert figures == {".svg", ".pdf"}
    refused = tried("compare", *folders, "--out", folders[0], code=3)
    assert "belongs to the run of" in refused.stderr


def test_dry_run_counts_what_is_shared(tried: Tiny, ablation: Result) -> None:
    # What the finished runs took answers for all but one seed more; little is left to probe.
    shown = tried("run", "ablation.toml", "--dry-run", *settings("seeds=[5]")).stdout
    assert "shared with gba-seed-5" in shown
    assert "Steps: " in shown


LAST = (
    'pseudo_label.last={train_on="target", preprocess={spacing_mm=[2.4,2.4,2.4], crop=[48,40]},'
    " segment={iterations=2}}"
)


def test_the_last_round_may_have_a_grid_of_its_own(copied: Tiny) -> None:
    copied.go(*settings("pseudo_label.rounds=2", LAST))
    assert copied.result.stages()[-1] == "round-2"
    [image] = sorted(copied.result.folder.glob("*-regrid-2/images"))
    paths = sorted(image.glob("*.nii"))
    assert paths
    for path in paths:
        np.testing.assert_allclose(nibabel.load(path).header.get_zooms(), 2.4, rtol=rounding(8))
        labels = nibabel.load(path.parents[1] / "labels" / path.name)
        assert labels.shape == nibabel.load(path).shape
        assert set(np.unique(labels.dataobj)) <= {0, 1, 2}


def test_a_warm_start_goes_on_and_refuses_another_network(copied: Tiny) -> None:
    cold, before = copied.result.keys(), copied.made()
    warm = settings("pseudo_label.warm_start=true")
    copied.go(*warm)
    made = copied.made() - before
    assert "train-round-1" in made
    assert not [step for step in made if "round-1" not in step]  # all before is what it was
    assert copied.result.keys()["train-augmented"] == cold["train-augmented"]
    failed = copied.go(*warm, *settings("pseudo_label.last.segment.base_channels=6"), code=2)
    assert "cannot start from the weights of the previous round" in failed


def test_classes_may_be_fewer_than_the_files_hold(copied: Tiny) -> None:
    copied.go(
        *settings("data.classes.tumor=false", "augment=false", "pseudo_label=false"),
        *settings("evaluate.structure=cochlea", "segment.largest_component=[]"),
    )
    result = copied.result
    assert {row["class"] for row in result.scores()} == {"cochlea"}
    paths = list(result.folder.glob("*-predict-translated-*/labels/*.nii.gz"))
    assert paths
    for path in paths:
        assert set(np.unique(nibabel.load(path).dataobj)) <= {0, 2}
