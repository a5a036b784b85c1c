"""A whole run from the command line, and what runs again when something changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib

import nibabel
import numpy as np
import pytest
from processor import AFFINE_MM, children_seconds
from program import ROOT, SMOKE, Program, Result

from crossmod.scores.metrics import COLUMNS

STAGES = ["oracle", "no-adaptation", "translated", "augmented", "round-1"]


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


def test_a_second_run_makes_nothing_and_is_quick(program: Program, smoke: Result) -> None:
    made = [json.loads(path.read_text("utf-8")) for path in smoke.folder.glob("*/manifest.json")]
    begin = children_seconds()
    again = program.run("smoke")
    seconds = children_seconds() - begin
    assert again.made() == []
    assert again.scores() == smoke.scores()
    assert seconds < sum(manifest["seconds"] for manifest in made) / 3


def test_the_locked_recipe_repeats_the_run(program: Program, smoke: Result) -> None:
    assert program.run("locked", recipe=smoke.folder / "recipe.lock.toml").made() == []


def test_one_option_recomputes_only_what_depends_on_it(program: Program, smoke: Result) -> None:
    made = program.run("changed", "--set", "translate.sharpen.iterations=1").made()
    untouched = ("phantom", "prepare", "oracle", "no-adaptation", "translate-gan")
    assert not [step for step in made if any(word in step for word in untouched)]
    assert {"translate-sharpen", "train-translated", "augment-tumors", "train-round-1"} <= set(made)


def test_a_comment_recomputes_nothing(program: Program, smoke: Result) -> None:
    text = SMOKE.read_text(encoding="utf-8").replace(
        "quickstart.toml", str(SMOKE.parent / "quickstart.toml")
    )
    recipe = program.folder / "commented.toml"
    recipe.write_text(text + "\n# a remark\n", encoding="utf-8")
    assert program.run("commented", recipe=recipe).made() == []


@pytest.mark.parametrize(
    ("removed", "missing"),
    [("augment", "augmented"), ("pseudo_label", "round-1"), ("translate", "translated")],
)
def test_a_stage_can_be_left_out(
    removed: str, missing: str, program: Program, smoke: Result
) -> None:
    result = program.run(f"without-{removed}", "--set", f"{removed}=false")
    assert result.stages() == [stage for stage in STAGES if stage != missing]


def test_folds_are_an_ensemble(program: Program, smoke: Result) -> None:
    settings = ["--set", "segment.folds=2", "--set", "evaluate.compare=[]"]
    result = program.run("folds", *settings, "--set", "pseudo_label=false")
    assert result.stages() == ["augmented"]
    trained = [step for step in result.made() if step.startswith("train")]
    assert sorted(trained) == ["train-augmented-fold-1", "train-augmented-fold-2"]


def test_a_third_party_plugin_from_a_copied_folder(program: Program, smoke: Result) -> None:
    """Copy a plugin folder, rename it, add nine lines of metadata, install: it works."""
    project = program.folder / "mine"
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
    site = program.folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, capture_output=True)

    listed = program("plugins", path=site).stdout
    assert "crossmod-mine" in listed
    result = program.run("mine-run", "--set", "translate.gan.use=mine", path=site)
    assert result.stages() == STAGES
    made = result.made()
    assert "translate-gan" in made
    assert not [step for step in made if "oracle" in step or "no-adaptation" in step]


def test_a_wrong_target_label_changes_nothing_but_scores(program: Program) -> None:
    cohort = program.folder / "cohort"
    program("data", "phantom", cohort, "--source", "4", "--target", "4", "--validation", "2",
            "--seed", "5")  # fmt: skip
    settings = ["--data", cohort, "--set", 'evaluate.compare=["no-adaptation"]']
    before = program.run("honest", *settings)
    assert before.stages() == ["no-adaptation", "augmented", "round-1"]
    for label in (cohort / "hidden").glob("*.nii.gz"):
        image = nibabel.load(label)
        wrong = np.zeros(image.shape, np.uint8)
        wrong[:9] = 1
        nibabel.save(nibabel.Nifti1Image(wrong, image.affine), label)
    after = program.run("planted", *settings)
    assert {step.split("-")[0] for step in after.made()} == {"score"}
    assert after.scores() != before.scores()
    unscored = {name: key for name, key in before.keys().items() if not name.startswith("score")}
    assert unscored == {n: k for n, k in after.keys().items() if not n.startswith("score")}


def test_a_cohort_without_references_still_gives_predictions(program: Program) -> None:
    cohort = program.folder / "cohort"
    unscored = program.folder / "unscored"
    shutil.copytree(cohort, unscored)
    shutil.rmtree(unscored / "hidden")
    result = program.run("unscored-run", "--data", unscored)
    assert result.scores() == []
    assert "No references to score against" in result.stdout
    assert list(result.folder.glob("*-predict-round-1-validation/labels/*.nii.gz"))


def test_a_damaged_result_is_noticed_and_made_anew(program: Program, smoke: Result) -> None:
    entry = program.folder / "store"
    key = smoke.keys()["translate-gan"]
    victim = next((entry / key[:2] / key / "images").glob("*.nii"))
    victim.chmod(0o644)
    content = bytearray(victim.read_bytes())
    content[-1] ^= 0xFF
    victim.write_bytes(bytes(content))
    changed = [
        "--out",
        program.folder / "d",
        "--store",
        entry,
        "--set",
        "translate.sharpen.iterations=3",
    ]
    done = program("run", SMOKE, *changed)
    assert "the stored result of translate-gan is damaged" in done.stdout
    assert {"translate-gan", "translate-sharpen"} <= set(Result(program.folder / "d", "").made())
    [aside] = (entry / "quarantine").glob(f"{key}-*")
    assert aside.is_dir()


def test_dry_run_says_what_would_run(program: Program, smoke: Result) -> None:
    arguments = ["--store", program.folder / "store", "--dry-run"]
    assert "Steps: 0 to run" in program("run", SMOKE, *arguments).stdout
    shown = program("run", SMOKE, *arguments, "--set", "seed=1").stdout
    assert "translate-gan-fit" in shown
    assert "Steps: 0 to run" not in shown
