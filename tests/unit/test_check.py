"""What `check` knows before anything runs, and that every fix it offers changes the outcome."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nifti_files import AFFINE, HELD_OUT, SOURCE, TARGET, content, small_cohort, some_data, write
from odd_plugin import HEAD, HOOK, Install
from test_recipe import RECIPES
from test_recipe import write as write_recipe

from crossmod import CrossmodError, DataError, MachineError, PluginError, RecipeError
from crossmod.errors import writing
from crossmod.recipe.load import load
from crossmod.recipe.lock import locked
from crossmod.recipe.names import find_recipe
from crossmod.run.api import plan
from crossmod.run.check import Findings, check
from crossmod.run.data import check_data, survey_data
from crossmod.run.planner import Planner

OTHER = """\
extends = "smoke.toml"
title = "abdomen"
[data]
centers = { north = "n_*", south = "s_*", ldn = false, etz = false }
classes = { tumor = false, cochlea = false, liver = 1, spleen = 2, kidney = 3, aorta = 4 }
[augment.tumors]
groups = [{ name = "all", where = { center = "east" }, factors = [0.5] }]
"""

SMALL = """\
extends = "smoke.toml"
title = "small"
[preprocess]
spacing_mm = [1.0, 2.0, 1.5]
crop = false
[translate]
gan = false
[augment]
tumors = false
[segment]
patch = [4, 4, 4]
"""
"""A recipe that the small cohort has no problem with."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_cohort(tmp_path / "data")


def findings(folder: Path, text: str, data: Path | None = None, *settings: str) -> Findings:
    for name in ("smoke", "quickstart"):
        shutil.copy(RECIPES / f"{name}.toml", folder)
    return check(write_recipe(folder, text), data, settings)


def all_findings(folder: Path, text: str, data: Path, *settings: str) -> Findings:
    """Those of `check` and, where the recipe is valid, those of `data check`."""
    found = findings(folder, text, data, *settings)
    if not found.problems and found.examined.checked:
        recipe = found.examined.checked[0].recipe
        found.problems += survey_data(recipe, data, check_data(recipe, data)).problems
    return found


def refusal(found: Findings) -> str:
    with pytest.raises(CrossmodError) as caught:
        found.require()
    return str(caught.value)


@pytest.mark.parametrize("with_data", [False, True])
def test_a_recipe_with_other_names_is_told_all_its_problems_at_once(
    with_data: bool, tmp_path: Path, root: Path
) -> None:
    found = findings(tmp_path, OTHER, root if with_data else None)
    with pytest.raises(RecipeError) as caught:
        found.require()
    message = str(caught.value)
    for key, text in {
        "translate.gan.fit_on.center": "no center is called 'ldn'",
        "augment.tumors.groups.0.where.center": "no center is called 'east'",
        "segment.largest_component.0": "no class is called 'tumor'",
        "evaluate.structure": "no class is called 'tumor'",
    }.items():
        assert f"{key}: {text}" in message
    assert message.count("no class is called") == 2  # defaults follow evaluate.structure
    assert ("belongs to none of the centers" in message) == with_data
    mended = (
        "translate.gan.fit_on=false", "augment.tumors.groups=[{name='all',factors=[0.5]}]",
        "segment.largest_component=['liver']", "evaluate.structure=liver",
    )  # fmt: skip
    findings(tmp_path, OTHER, None, *mended).require()


def test_names_are_looked_up_where_other_keys_are_wrong(tmp_path: Path) -> None:
    text = OTHER + "[segment]\nfolds = 0\nepoch = 3\n"
    message = refusal(findings(tmp_path, text))
    assert "segment.folds" in message
    assert "translate.gan.fit_on.center: no center is called 'ldn'" in message
    assert "evaluate.structure: no class is called 'tumor'" in message


def test_defaults_follow_the_structure_of_the_recipe(tmp_path: Path) -> None:
    settings = ["evaluate.structure=cochlea", "segment.largest_component=[]"]
    uses = load(RECIPES / "smoke.toml", settings).uses
    assert uses["augment", "tumors"].options.structure == "cochlea"  # type: ignore[attr-defined]
    cleaned = uses["pseudo_label", ""].options
    assert cleaned.structure == "cochlea"  # type: ignore[attr-defined]
    assert cleaned.largest_component == ("cochlea",)  # type: ignore[attr-defined]
    as_before = load(RECIPES / "smoke.toml").uses["pseudo_label", ""].options
    assert as_before.largest_component == ("tumor",)  # type: ignore[attr-defined]


NAMES = """
class Inner(Options):
    center: CenterName | None = None
class Names(Options):
    weights: dict[ClassName, float] = {"gland": 2.0}
    inner: tuple[Inner, ...] = ()
    home: CenterPattern = "ld*"
class Odd(Translator[Names]):
    def translate(self, volumes, state, ctx):
        yield from volumes
    def check_data(self, data):
"""


def test_names_in_options_of_any_plugin_are_looked_up_defaults_included(
    site: Path, install: Install
) -> None:
    install(site, "odd", HEAD + NAMES + "        return ()\n" + HOOK)
    settings = ["translate.odd.use=odd", "translate.odd.inner=[{center='ld'},{}]"]
    with pytest.raises(RecipeError) as caught:
        load(RECIPES / "smoke.toml", settings)
    assert "translate.odd.weights.gland: no class is called 'gland'" in str(caught.value)
    assert "translate.odd.inner.0.center: no center is called 'ld'" in str(caught.value)
    assert "did you mean 'ldn'?" in str(caught.value)
    assert "home" not in str(caught.value)
    load(RECIPES / "smoke.toml", [settings[0], "translate.odd.weights={tumor=1.0}"])


@pytest.mark.parametrize(
    ("body", "problem", "warning"),
    [
        ("yield f'home: {len(data.labeled)} of {data.labeled[0].shape}'",
         "translate.odd.home: 2 of (8, 7, 6)", ""),
        ("yield 'warning: home: cold'", "", "translate.odd.home: cold"),
    ],
)  # fmt: skip
def test_a_plugin_may_compare_its_options_with_the_data(
    body: str, problem: str, warning: str, site: Path, install: Install, tmp_path: Path, root: Path
) -> None:
    install(site, "odd", HEAD + NAMES.replace('"gland"', '"tumor"') + f"        {body}\n" + HOOK)
    odd = ("translate.odd.use=odd", "translate.odd.home=ldn")
    found = findings(tmp_path, SMALL, root, *odd)
    assert problem in "\n".join(found.problems)
    assert warning in "\n".join(found.warnings)
    assert bool(problem) == bool(found.problems)


@pytest.mark.parametrize("body", ["return [1]", "1 / 0", "sys.exit()"])
def test_a_plugin_that_fails_at_that_is_named(
    body: str, site: Path, install: Install, tmp_path: Path, root: Path
) -> None:
    install(site, "odd", HEAD + NAMES.replace('"gland"', '"tumor"') + f"        {body}\n" + HOOK)
    with pytest.raises(PluginError, match=r"plugin 'odd' \(odd 1\.2\): check_data "):
        findings(tmp_path, SMALL, root, "translate.odd.use=odd")


def test_options_that_do_not_fit_the_data_are_told_at_once(tmp_path: Path, root: Path) -> None:
    groups = "[{name='a',where={center='far'},factors=[0.5]}]"
    settings = (
        "data.centers.far=x_*", "translate.gan.fit_on.center=far", "augment.tumors.min_size=25",
        "augment.tumors.start_scales=[9]", f"augment.tumors.groups={groups}",
        "augment.tumors.training_case=nobody", "segment.patch=[48,48,200]",
    )  # fmt: skip
    text = 'extends = "smoke.toml"\ntitle = "t"\n'
    found = findings(tmp_path, text, root, *settings)
    problems, warnings = "\n".join(found.problems), "\n".join(found.warnings)
    assert "translate.gan.fit_on.center: no source scan is of center 'far'" in problems
    assert "translate.gan.fit_on.center: no target scan is of center 'far'" in problems
    assert "augment.tumors.start_scales: scale 9 does not exist" in problems
    assert "augment.tumors.training_case: no target scan is called so" in problems
    assert "data.centers.far: no scan is of center 'far'" in warnings
    assert "augment.tumors.groups.0.where.center: matches no scan" in warnings
    assert "segment.patch: 200 voxels along K, but the training images have at most 6" in warnings


@pytest.mark.parametrize(
    ("bounds", "matches"),
    [
        ("{above=100000}", False),
        ("{below=1}", False),
        ("{above=100}", True),
        ("{below=100000}", True),
    ],
)
@pytest.mark.parametrize("plugin", ["singan-gba", "naive-rescale"])
def test_groups_whose_volumes_no_lesion_has(
    plugin: str, bounds: str, matches: bool, tmp_path: Path, root: Path
) -> None:
    # The label maps of the cohort hold some 60 voxels of 3 mm³.
    text = SMALL.replace("[augment]\ntumors = false\n", "")
    groups = f"augment.tumors.groups=[{{name='a',where={{volume_mm3={bounds}}},factors=[0.5]}}]"
    found = findings(tmp_path, text, root, f"augment.tumors.use={plugin}", groups)
    told = "augment.tumors.groups: group 'a' matches none of 2 scans" in "\n".join(found.warnings)
    assert told != matches


UNSET = {
    "preprocess.crop": None,
    "segment.patch": None,
    "segment.iterations": None,
    "segment.folds": 1,
    "translate.gan.iterations": None,
    "evaluate.labels": None,
    "evaluate.structure": "tumor",
    "data.phantom": None,
    "pseudo_label.rounds": 1,
    "segment.mirror_predictions": False,  # a value of its own
    "translate.gan.flip": False,
}


@pytest.mark.parametrize("key", UNSET)
def test_false_unsets_what_a_parent_recipe_sets(key: str, tmp_path: Path) -> None:
    for name in ("smoke", "quickstart"):
        shutil.copy(RECIPES / f"{name}.toml", tmp_path)
    path = write_recipe(tmp_path, f'extends = "smoke.toml"\ntitle = "t"\n{key} = false\n')
    checked = load(path)
    *table, name = key.split(".")
    found = checked.recipe
    for part in table:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    use = checked.uses.get((table[0], ".".join(table[1:])))
    place = use.options if use and name in type(use.options).model_fields else found
    assert getattr(place, name) == UNSET[key]
    again = load(write_recipe(tmp_path, locked(checked), "lock.toml"))  # the lock says the same
    if key != "data.phantom":
        steps = [[(s.name, s.key) for s in Planner(c, None).plan().steps] for c in (checked, again)]
        assert steps[0] == steps[1]


def test_classes_and_crops_of_the_last_round_can_be_unset(tmp_path: Path) -> None:
    for name in ("smoke", "quickstart"):
        shutil.copy(RECIPES / f"{name}.toml", tmp_path)
    text = (
        'extends = "smoke.toml"\ntitle = "t"\ndata.classes.cochlea = false\n'
        'pseudo_label.last = { train_on = "target", preprocess = { crop = false } }\n'
    )
    checked = load(write_recipe(tmp_path, text))
    assert list(checked.recipe.data.classes) == ["tumor"]
    assert (checked.recipe.preprocess.crop, checked.last.preprocess.crop) == ((72, 48), None)
    again = load(write_recipe(tmp_path, locked(checked), "lock.toml"))
    assert again.last.preprocess == checked.last.preprocess


# --- every fix that a message offers changes the outcome --------------------------------------


def relabel(root: Path, **options: object) -> Path:
    return write(root / SOURCE / "crossmoda2021_ldn_1_Label.nii.gz", **options)


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def refer(root: Path, **options: object) -> None:
    (root / "hidden").mkdir(exist_ok=True)
    for case in ("crossmoda2021_ldn_2", "crossmoda2022_etz_2"):
        write(root / "hidden" / f"{case}_Label.nii.gz", **options)


LABELS = (some_data() > 80).astype("u1")
MARKS = some_data().astype("f4")
MARKS[0, 0, 0] = np.nan
IMAGE = f"{TARGET}/crossmoda2021_ldn_2_hrT2.nii.gz"

Change = Callable[[Path], object]

FIXES: dict[
    str, tuple[Change, tuple[str, ...], str, Change, tuple[str, ...]],
] = {
    "label map elsewhere": (
        lambda root: relabel(root, data=LABELS, affine=moved(2)), (),
        "intake.resample_labels = true", lambda root: None, ("intake.resample_labels=true",),
    ),
    "reference cut to its extent": (
        lambda root: refer(root, data=LABELS[:-1]), (),
        "intake.resample_labels = true", lambda root: None, ("intake.resample_labels=true",),
    ),
    "reference on another grid": (
        lambda root: refer(root, data=LABELS, affine=moved(0.5)), ("intake.resample_labels=true",),
        "resample it to the grid of its scan", lambda root: refer(root, data=LABELS), (),
    ),
    "NaN": (
        lambda root: write(root / IMAGE, data=MARKS), (),
        'intake.nonfinite = "zero"', lambda root: None, ("intake.nonfinite=zero",),
    ),
    "no orientation": (
        lambda root: write(root / IMAGE, content(some_data() + 9, qform_code=0, sform_code=0)), (),
        "intake.assume_affine = true", lambda root: None, ("intake.assume_affine=true",),
    ),
    "large scan": (
        lambda root: None, ("intake.limits.max_voxels=100",),
        "intake.limits.max_voxels", lambda root: None, ("intake.limits.max_voxels=1000",),
    ),
    "fine grid": (
        lambda root: None, ("preprocess.spacing_mm=[0.001,0.001,0.001]",),
        "a larger spacing_mm", lambda root: None, ("preprocess.spacing_mm=[1.0,2.0,1.5]",),
    ),
    "folds": (
        lambda root: None, ("segment.folds=5",), "fewer folds", lambda root: None,
        ("segment.folds=2",),
    ),
    "both sides": (
        lambda root: shutil.copy(root / IMAGE, root / HELD_OUT), (), "put each patient in one",
        lambda root: (root / HELD_OUT / Path(IMAGE).name).unlink(), (),
    ),
    "shared value": (
        lambda root: None, ("data.classes.gland=1",), "`tumor = false`", lambda root: None,
        ("data.classes.tumor=false", "evaluate.structure=gland", "segment.largest_component=[]"),
    ),
    "center": (
        lambda root: None,
        ("translate.gan.use=van-cittert", "data.centers.b=b_*", "translate.gan.fit_on.center=b"),
        '"*"', lambda root: None, ("translate.gan.fit_on.center=*",),
    ),
    "missing label map": (
        lambda root: (root / SOURCE / "crossmoda2021_ldn_1_Label.nii.gz").unlink(), (),
        "no label map at", lambda root: relabel(root, data=LABELS), (),
    ),
}  # fmt: skip
"""Name -> how it goes wrong, with which settings, the advice, and what following it means."""


@pytest.mark.parametrize("name", FIXES)
def test_following_the_advice_changes_the_outcome(name: str, tmp_path: Path, root: Path) -> None:
    spoil, before, advice, mend, after = FIXES[name]
    spoil(root)
    message = refusal(all_findings(tmp_path, SMALL, root, *before))
    assert advice in message
    mend(root)
    all_findings(tmp_path, SMALL, root, *before, *after).require()


def test_start_scales_can_be_had_as_the_message_says(tmp_path: Path, root: Path) -> None:
    augment = (
        "augment.tumors.use=singan-gba", "augment.tumors.groups=[{name='a',factors=[0.5]}]",
        "augment.tumors.kernel=3", "augment.tumors.min_size=12", "preprocess.crop=[30,30]",
        "augment.tumors.start_scales=[5]", "augment.tumors.scale_factor=0.6",
    )  # fmt: skip
    text = SMALL.replace("[augment]\ntumors = false\n", "")
    message = refusal(findings(tmp_path, text, root, *augment))
    assert "a scale_factor closer to 1" in message
    findings(tmp_path, text, root, *augment, "augment.tumors.scale_factor=0.9").require()


def test_a_mistyped_place_is_told_from_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mistyped: does not exist") as caught:
        find_recipe(Path("mistyped"), "a folder of scans, ")
    assert "allowed: a folder of scans, a .toml file, or a recipe of crossmod: " in str(
        caught.value
    )
    with pytest.raises(RecipeError, match="did you mean 'smoke'"):
        find_recipe(Path("smok"))
    assert find_recipe(Path("smoke")).name == "smoke.toml"
    with pytest.raises(RecipeError, match="is a folder, not a recipe"):
        find_recipe(tmp_path)
    with pytest.raises(DataError, match="none: does not exist"):
        check(RECIPES / "smoke.toml", tmp_path / "none").require()


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EACCES, "choose another place, or change who may write there"),
        (errno.EROFS, "choose another place, or change who may write there"),
        (errno.ENOSPC, "free up disk space, or choose another place"),
    ],
)
def test_advice_fits_the_reason_why_something_cannot_be_written(number: int, fix: str) -> None:
    with pytest.raises(MachineError) as caught, writing("scores.csv"):
        raise OSError(number, os.strerror(number))
    assert caught.value.fix == fix


def test_an_embedded_cohort_too_small_for_the_folds_is_refused(tmp_path: Path) -> None:
    text = 'extends = "smoke.toml"\ntitle = "folds"\n'
    for folds, wrong in ((4, False), (5, True)):
        found = findings(tmp_path, text, None, f"segment.folds={folds}")
        assert bool(found.problems) == wrong
    assert "source: patients: 4 cannot be split into 5 folds" in refusal(found)
    assert "data.phantom.source" in refusal(found)
    assert not findings(tmp_path, text, None, "segment.folds=5", "data.phantom.source=6").problems
    with pytest.raises(DataError, match="cannot be split into 5 folds"):
        plan(tmp_path / "r.toml", out=tmp_path / "out", settings=["segment.folds=5"])
