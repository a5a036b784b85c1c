"""A whole run from the command line, and what runs again when something changes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from processor import AFFINE_MM, children_seconds
from program import ROOT, SMOKE, Program, Result
from tiny import Tiny, settings

from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.scores.metrics import COLUMNS

COMPARED = settings('evaluate.compare=["no-adaptation"]')
STAGES = ["oracle", "no-adaptation", "translated", "augmented", "round-1"]


def test_survival_of_structures_is_measured_told_and_shown(smoke: Result) -> None:
    rows = (smoke.folder / "survival.csv").read_text(encoding="utf-8").splitlines()
    [step] = smoke.folder.glob("*-survival")
    [labeled] = smoke.folder.glob("*-pseudo-label-1")
    parts = [
        (one / "survival.csv").read_text(encoding="utf-8").splitlines() for one in (step, labeled)
    ]
    assert rows == [*parts[0], *parts[1][1:]]
    assert {row.split(",")[2] for row in rows[1:]} == {"tumor", "cochlea"}
    report = (smoke.folder / "report.html").read_text(encoding="utf-8")
    assert "What becomes of labeled structures" in report
    assert "recovery by a small segmenter" in report


def test_a_run_leaves_scores_report_lock_and_readable_folders(smoke: Result) -> None:
    assert smoke.stages() == STAGES
    rows = smoke.scores()
    assert tuple(rows[0]) == COLUMNS
    assert {row["split"] for row in rows} == {"target", "validation"}
    assert {row["class"] for row in rows} == {"tumor", "cochlea"}
    assert {row["center"] for row in rows} == {"ldn", "etz"}
    assert len(rows) == len(STAGES) * (4 + 2) * 2

    names = sorted(path.name for path in smoke.folder.iterdir() if path.is_dir())
    assert names[:3] == ["01-phantom", "02-prepare-source", "03-prepare-target"]
    images = list(smoke.folder.glob("*-translate-gan/images/*.nii"))
    assert len(images) == 4
    assert 0 <= nibabel.load(images[0]).get_fdata().min() <= 1
    assert len((smoke.folder / "report.html").read_text(encoding="utf-8")) > 10_000
    assert "round-1" in smoke.stdout
    lock = tomllib.loads((smoke.folder / "recipe.lock.toml").read_text(encoding="utf-8"))
    assert lock["translate"]["gan"]["pool_size"] == 50  # a default, filled in


def test_predictions_lie_on_the_grid_of_the_scan(smoke: Result) -> None:
    scans = list(smoke.folder.glob("01-phantom/crossmoda2022_validation/validation/*.nii.gz"))
    assert len(scans) == 2
    for scan in scans:
        name = scan.name.replace("_hrT2", "")
        [labels] = smoke.folder.glob(f"*-predict-round-1-validation/labels/{name}")
        one, other = nibabel.load(scan), nibabel.load(labels)
        assert one.shape == other.shape
        np.testing.assert_allclose(one.affine, other.affine, rtol=0, atol=AFFINE_MM)


def test_a_second_run_makes_nothing_and_is_quick(after_smoke: Program, smoke: Result) -> None:
    made = [json.loads(path.read_text("utf-8")) for path in smoke.folder.glob("*/manifest.json")]
    scores, began = smoke.scores(), len(smoke.events())
    begin = children_seconds()
    store = after_smoke.folder / "store"
    after_smoke.as_installed("run", SMOKE, "--out", smoke.folder, "--store", store)
    seconds = children_seconds() - begin
    again = Result(smoke.folder, "", began)
    assert again.made() == []
    assert again.scores() == scores
    assert seconds < sum(manifest["seconds"] for manifest in made) / 3


def test_the_locked_recipe_repeats_the_run(after_smoke: Program, smoke: Result) -> None:
    assert after_smoke.run("locked", recipe=smoke.folder / "recipe.lock.toml").made() == []


def keys_of(recipe: Path, *settings: str) -> dict[str, str]:
    """Step -> content key, as a run would have them; what is stored under its key is not made."""
    [checked] = load_all(recipe, settings)
    return {step.name: step.key for step in Planner(checked, None).plan().steps}


def test_one_option_recomputes_only_what_depends_on_it() -> None:
    stored = keys_of(SMOKE).values()
    changed = keys_of(SMOKE, "translate.sharpen.iterations=1")
    made = {step for step, key in changed.items() if key not in stored}
    untouched = ("phantom", "prepare", "oracle", "no-adaptation", "translate-gan")
    assert not [step for step in made if any(word in step for word in untouched)]
    assert {"translate-sharpen", "train-translated", "augment-tumors", "train-round-1"} <= made


def test_a_comment_recomputes_nothing(tmp_path: Path) -> None:
    text = SMOKE.read_text(encoding="utf-8")
    recipe = tmp_path / "commented.toml"
    recipe.write_text(text.replace("quickstart.toml", "quickstart") + "\n# a remark\n", "utf-8")
    assert keys_of(recipe) == keys_of(SMOKE)


@pytest.mark.parametrize(
    ("removed", "missing", "left"),
    [
        ("augment", "augmented", ["translated", "round-1"]),
        ("pseudo_label", "round-1", ["augmented"]),
        ("translate", "translated", ["augmented", "round-1"]),
    ],
)
def test_a_stage_can_be_left_out(removed: str, missing: str, left: list[str], copied: Tiny) -> None:
    without = f"{removed}=false"
    scored = [re.fullmatch("score-(.*)-validation", step) for step in keys_of(SMOKE, without)]
    assert [score[1] for score in scored if score] == [name for name in STAGES if name != missing]
    copied.go(*settings(without))
    assert copied.result.stages() == left


def test_a_third_party_plugin_from_a_copied_folder(copied: Tiny) -> None:
    """Copy a plugin folder, rename it, add nine lines of metadata, install: it works."""
    project = copied.folder / "mine"
    shutil.copytree(ROOT / "plugins" / "crossmod_van_cittert", project / "crossmod_mine")
    for path in (project / "crossmod_mine").glob("*.py"):
        text = path.read_text(encoding="utf-8").replace("crossmod_van_cittert", "crossmod_mine")
        path.write_text(text, encoding="utf-8")
    metadata = [
        "[project]",
        'name = "crossmod-mine"',
        'version = "0.3"',
        '[project.entry-points."crossmod.plugins"]',
        'mine = "crossmod_mine"',
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
    ]
    (project / "pyproject.toml").write_text("\n".join(metadata), encoding="utf-8")
    site = copied.folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, capture_output=True)

    assert "crossmod-mine" in copied("plugins", path=site).stdout
    before = copied.made()
    mine = settings("translate.gan.use=mine", "augment=false", "pseudo_label=false")
    copied.go(*mine, PYTHONPATH=str(site))
    assert copied.result.stages() == ["translated"]
    made = copied.made() - before
    assert "translate-gan" in made
    assert not [step for step in made if "phantom" in step or "prepare" in step]


@pytest.fixture(scope="module")
def honest(undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A finished run on a folder of data that holds target labels, for scores alone."""
    tiny = Tiny(tmp_path_factory.mktemp("honest"))
    shutil.copytree(undisturbed.result.folder / "01-phantom", tiny.folder / "cohort",
                    ignore=shutil.ignore_patterns("manifest.json"))  # fmt: skip
    tiny.go("--data", "cohort", *COMPARED)
    return tiny


def test_a_wrong_target_label_changes_nothing_but_scores(honest: Tiny) -> None:
    before = honest.result
    assert before.stages() == ["no-adaptation", "augmented", "round-1"]
    shutil.copytree(honest.folder / "cohort", honest.folder / "planted")
    labels = list((honest.folder / "planted" / "hidden").glob("*.nii.gz"))
    assert labels
    for label in labels:
        image = nibabel.load(label)
        wrong = np.zeros(image.shape, np.uint8)
        wrong[:9] = 1
        label.unlink()
        nibabel.save(nibabel.Nifti1Image(wrong, image.affine), label)
    honest.go("--data", "planted", "--out", "runs/planted", *COMPARED)
    after = Result(honest.folder / "runs" / "planted", "")
    assert {step.split("-")[0] for step in after.made()} == {"score"}
    assert after.scores() != before.scores()
    unscored = {name: key for name, key in before.keys().items() if not name.startswith("score")}
    assert unscored == {n: k for n, k in after.keys().items() if not n.startswith("score")}


def test_a_cohort_without_references_still_gives_predictions(honest: Tiny) -> None:
    shutil.copytree(honest.folder / "cohort", honest.folder / "unscored",
                    ignore=shutil.ignore_patterns("hidden"))  # fmt: skip
    said = honest.go("--data", "unscored", "--out", "runs/unscored", *COMPARED,
                     "--set", "evaluate.labels=false")  # fmt: skip
    result = Result(honest.folder / "runs" / "unscored", said)
    assert result.scores() == []
    assert "No references to score against" in said
    assert list(result.folder.glob("*-predict-round-1-validation/labels/*.nii.gz"))
