"""Rounds of self-training that judge their pseudo-labels, from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import bright
import nibabel
import numpy as np
import pytest
from program import ROOT
from sheets import rows_of
from tiny import Digests, Tiny, settings

from crossmod.data.state import load_state
from crossmod.model.context import prediction_context
from crossmod.model.facts import RUN_FILE, RunFacts, read_facts
from crossmod.model.held_out import Known, known_outlines, require_held_out
from crossmod.model.load import ensemble_of

RECIPE = f"""\
extends = "{ROOT / "recipes" / "smoke.toml"}"
title = "Trust"
determinism = "exact"
translate = false
augment = false
[preprocess]
spacing_mm = [3.0, 3.0, 3.0]
crop = [40, 32]
[segment]
folds = 2
patch = [24, 24, 16]
iterations = 4
[evaluate]
compare = []
"""
TRUST = """\
[pseudo_label]
rounds = 2
min_agreement = 0.05
volume_window = [0.0001, 10000.0]
max_entropy = 0.5
max_change = 0.99
mask_below = 1.0
lowest_weight = 0.5
shares = [0.5, 1.0]
"""
GUIDED = """\
[augment.tumors]
use = "naive-rescale"
groups = [{ name = "all", means = "guided", first = [0.4], copies = 2 }]
"""
JUDGED = RECIPE.replace("augment = false\n", "") + TRUST + GUIDED


def ledger_of(tiny: Tiny) -> list[dict[str, str]]:
    return rows_of(tiny.result.folder / "ledger.csv")


def chosen(tiny: Tiny) -> Digests:
    """Step -> file -> digest, of what was learned and of what decided it."""
    kinds = ("train", "pseudo-label", "predict", "augment")
    return {d["step"]: d for d in tiny.digests().values() if d["step"].startswith(kinds)}


def cases_of(tiny: Tiny, step: str) -> set[str]:
    """The cases of a cohort."""
    [folder] = tiny.result.folder.glob(f"*-{step}")
    return {path.stem for path in (folder / "images").glob("*.nii")}


def known_of(tiny: Tiny) -> list[Known]:
    """What `crossmod package --calibrate` would learn from."""
    run = tiny.result.folder
    stage = read_facts(run / RUN_FILE, RunFacts).stages["round-2"]
    held_out, ensemble = require_held_out(run, stage), ensemble_of(stage, run)
    assert {len(cases) for cases in held_out.cases} == {1}
    assert len(set().union(*held_out.cases)) == 2
    states = [load_state(run / fold.folder) for fold in stage.folds]
    with prediction_context(ensemble, "cpu", "fp32") as ctx:
        return known_outlines(run, held_out, ensemble, states, ctx)


@pytest.fixture(scope="module")
def data(undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with hidden labels."""
    folder = tmp_path_factory.mktemp("trust") / "cohort"
    phantom = undisturbed.result.folder / "01-phantom"
    return shutil.copytree(phantom, folder, ignore=shutil.ignore_patterns("manifest.json"))


@pytest.fixture(scope="module")
def trusted(data: Path) -> Tiny:
    tiny = Tiny(data.parent / "right", JUDGED)
    tiny.go("--data", data)
    return tiny


def test_the_ledger_has_a_row_for_every_case_and_round(trusted: Tiny) -> None:
    rows = ledger_of(trusted)
    assert [row["round"] for row in rows] == ["1"] * 2 + ["2"] * 2
    assert len({row["case"] for row in rows}) == 2
    assert {row["kept"] for row in rows} <= {"yes", "no"}
    for row in rows:
        assert (row["kept"] == "no") == bool(row["why"])
        assert 0 <= float(row["agreement_tumor"]) <= 1
        assert float(row["volume_mm3_tumor"]) >= 0
        assert row["center"]
    page = (trusted.result.folder / "report.html").read_text("utf-8")
    assert "Which target scans each round learned from" in page


def test_what_is_kept_counts_and_is_masked_in_files(trusted: Tiny) -> None:
    [folder] = trusted.result.folder.glob("*-pseudo-label-2")
    kept = [row for row in ledger_of(trusted) if row["round"] == "2" and row["kept"] == "yes"]
    assert len(list((folder / "images").glob("*.nii"))) == len(kept)
    masked = {row["case"] for row in kept if float(row["masked_share"])}
    assert {path.stem for path in (folder / "ignore").glob("*.nii")} == masked


def test_each_round_has_copies_that_its_pseudo_labels_guide(trusted: Tiny) -> None:
    made = {step: set(files) for step, files in chosen(trusted).items() if "augment" in step}
    images = {
        step: {name for name in files if name.startswith("images/")} for step, files in made.items()
    }
    assert images["augment-tumors"] == {
        f"images/{case}+all-m0.4.nii" for case in cases_of(trusted, "prepare-source")
    }
    for number in (1, 2):
        copies = images[f"augment-tumors-round-{number}"]
        assert copies
        assert not copies & images["augment-tumors"]
    page = (trusted.result.folder / "report.html").read_text("utf-8")
    assert "How well training covers the target" in page
    assert "with the copies for round 2" in page


def test_wrong_hidden_labels_change_no_choice(data: Path, trusted: Tiny) -> None:
    """Labels of the target, turned around and of the wrong class, in a store of its own."""
    planted = data.parent / "planted"
    shutil.copytree(data, planted)
    files = list(planted.glob("hidden/*"))
    assert files
    for path in files:
        image = nibabel.load(path)
        wrong = (3 - np.asarray(image.dataobj)[::-1, ::-1]) % 3
        nibabel.save(nibabel.Nifti1Image(wrong.astype(np.uint8), image.affine), path)
    other = Tiny(data.parent / "wrong", JUDGED)
    other.go("--data", planted)
    assert other.result.scores() != trusted.result.scores()
    assert chosen(other) == chosen(trusted)
    assert ledger_of(other) == ledger_of(trusted)
    known = known_of(trusted)
    assert known
    assert known_of(other) == known


def test_a_recipe_without_these_options_has_no_ledger(data: Path, trusted: Tiny) -> None:
    out = trusted.folder / "runs" / "tiny"
    assert (out / "ledger.csv").exists()
    plain = "".join(line for line in (RECIPE, "[pseudo_label]\nkeep_empty = true\n"))
    (trusted.folder / "plain.toml").write_text(plain, encoding="utf-8")
    trusted("run", "plain.toml", "--profile", "profile.toml", "--data", data)
    folder = trusted.folder / "runs" / "plain"
    assert not (folder / "ledger.csv").exists()
    assert not list(folder.glob("*/folds"))
    assert not list(folder.glob("*-pseudo-label-*/training.jsonl"))
    assert "Which target scans" not in (folder / "report.html").read_text("utf-8")


def test_views_stand_in_for_folds_where_there_is_one(data: Path, trusted: Tiny) -> None:
    more = settings("segment.folds=1", "pseudo_label.rounds=1", "evaluate.labels=false")
    tiny = Tiny(trusted.folder.parent / "single", JUDGED)
    tiny.go("--data", data, *more)
    [folder] = tiny.result.folder.glob("*-predict-*-target/folds")
    for path in folder.glob("*.npz"):
        with np.load(path) as file:
            assert len(file["folds"]) == 4
    assert all(row["agreement_tumor"] for row in ledger_of(tiny))


def test_a_segmenter_that_heeds_no_weights_is_refused(tmp_path: Path) -> None:
    recipe = RECIPE.partition("[segment]")[0] + '[segment]\nuse = "bright"\n'
    tiny = Tiny(tmp_path / "bright", recipe + "[pseudo_label]\nlowest_weight = 0.5\n")
    site = bright.site(tmp_path / "site")
    said = tiny("check", "tiny.toml", code=2, path=site).stderr
    assert "pseudo_label: these options of plugin 'self-training'" in said
    assert "plugin 'bright' (crossmod-bright 0.3) learns from all voxels" in said
    tiny("check", "tiny.toml", "--set", "pseudo_label.lowest_weight=1.0", path=site)
