"""Splits that choose their cases by ids or by a list in a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from crossmod import DataError, RecipeError
from crossmod.data.choice import CaseList, Choice
from crossmod.data.folder import find_scans
from crossmod.recipe.load import load
from crossmod.run.data import check_data
from crossmod.run.planner import Planner

SHIPPED = Path(__file__).parents[2] / "recipes"
IMAGES, LABELS = "i/{case}.nii.gz", "l/{case}.nii.gz"
EVERYONE = {"all": "*"}
NAMES = ("ldn_1", "ldn_2", "etz_1", "etz_[2]", "Zoë")

RECIPE = f"""\
extends = "{SHIPPED / "smoke.toml"}"
title = "Lists"
[data]
source.images = "{IMAGES}"
source.labels = "{LABELS}"
target.images = "t/{{case}}.nii.gz"
validation = false
centers = {{ all = "*" }}
[evaluate]
compare = []
splits = ["target"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for folder in ("i", "l", "t"):
        (root / folder).mkdir(parents=True)
        for name in NAMES:
            (root / folder / f"{name}.nii.gz").write_text(f"{folder} {name}")
    return root


def chosen(root: Path, cases: object = None, exclude: object = None) -> list[str]:
    def of(written: object) -> CaseList | None:
        fields = {"ids": written} if isinstance(written, list) else written
        return None if fields is None else CaseList.model_validate(fields)

    choice = Choice(of(cases), of(exclude))
    return [scan.case for scan in find_scans(root, IMAGES, LABELS, EVERYONE, choice)]


LISTS = {
    "lines.txt": ("# ours\nldn_1\r\n\n  etz_[2]\n", {}),
    "bom.txt": ("\ufeffldn_1\netz_[2]\n", {}),
    "participants.tsv": ("participant_id\tage\nsub-ldn_1\t5\nsub-etz_[2]\t7\n", {}),
    "participants.csv": ("participant_id,age\nldn_1,5\netz_[2],7\n", {}),
    "other.csv": ("age,case\n5,ldn_1\n7,etz_[2]\n", {"column": "case"}),
    "some.csv": ("participant_id,group\nldn_1,a\netz_[2],b\nldn_2,c\n",
                 {"where": {"group": ["a", "b"]}}),
    "one.csv": ("participant_id,group\nldn_1,a\netz_[2],a\nldn_2,c\n", {"where": {"group": "a"}}),
    "splits_final.json": (json.dumps([{"train": [], "val": []},
                                      {"train": ["ldn_2"], "val": ["ldn_1", "etz_[2]"]}]),
                          {"fold": 1, "part": "val"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_file_lists_the_cases(name: str, root: Path) -> None:
    text, more = LISTS[name]
    (root / name).write_bytes(text.encode())
    assert chosen(root, {"file": name, **more}) == ["etz_[2]", "ldn_1"]
    assert chosen(root, exclude={"file": name, **more}) == ["Zoë", "etz_1", "ldn_2"]


def test_patterns_of_ids_choose_and_exclude(root: Path) -> None:
    assert chosen(root, ["ldn_*"]) == ["ldn_1", "ldn_2"]
    assert chosen(root, exclude=["etz_*", "Zoë"]) == ["ldn_1", "ldn_2"]
    assert chosen(root, ["ldn_*", "etz_[2]"], ["*_1"]) == ["etz_[2]", "ldn_2"]
    assert chosen(root, ["Zoe\u0308"]) == ["Zoë"]  # the same letters, another form


def test_cases_that_are_not_there_are_named(root: Path) -> None:
    (root / "list.txt").write_text("ldn_1\nldn_8\nldn_9\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"cases of list\.txt: no scan matches ldn_8, ldn_9"):
        chosen(root, {"file": "list.txt"})
    with pytest.raises(DataError, match="exclude: no scan matches ukm_\\*"):
        chosen(root, exclude=["ukm_*"])
    with pytest.raises(DataError, match="leave no scan"):
        chosen(root, ["ldn_*"], ["ldn_*"])


BROKEN = {
    "missing.txt": (None, "does not exist|cannot be read|is not a file|No such"),
    "empty.txt": ("# nothing\n", "lists no case"),
    "t.csv": ("case,age\nldn_1,5\n", "has no column participant_id"),
    "s.json": ('[{"train": []}]', "has no fold 0 with a part 'val'"),
    "n.json": ("[", "is not JSON"),
    "o.json": ('{"train": ["a"]}', "has no fold 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_list_that_cannot_be_used_is_named(name: str, root: Path) -> None:
    text, message = BROKEN[name]
    if text is not None:
        (root / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        chosen(root, {"file": name, "part": "val"})
    assert name in str(caught.value)


def test_what_is_wrong_with_other_cases_does_not_matter(root: Path) -> None:
    (root / "l" / "ldn_2.nii.gz").unlink()
    with pytest.raises(DataError, match="no label map"):
        chosen(root)
    assert len(chosen(root, exclude=["ldn_2"])) == 4


def plan_of(folder: Path, root: Path, text: str = "", *settings: str):
    path = folder / "lists.toml"
    path.write_text(RECIPE.replace("[evaluate]", f"{text}\n[evaluate]"), encoding="utf-8")
    return Planner(load(path, settings, allow_outside=True), root).plan()


def test_lists_are_in_the_keys_only_where_there_are_some(tmp_path: Path, root: Path) -> None:
    every = plan_of(tmp_path, root)
    (root / "out.txt").write_text("etz_1\n", encoding="utf-8")
    some = plan_of(tmp_path, root, 'source.cases = ["ldn_*"]\ntarget.exclude = "out.txt"')
    assert "cases" not in every.source.settings
    assert some.source.settings["cases"] == ["ldn_1", "ldn_2"]
    assert "etz_1" not in some.target.settings["cases"]
    assert len(some.source.data.settings["files"]) == 4
    # Files of other cases come and go without a trace, other lists with the same cases, too.
    (root / "i" / "late_1.nii.gz").write_text("x", encoding="utf-8")
    text = 'source.cases = ["ldn_1", "ldn_2"]\ntarget.exclude = ["etz_1"]'
    again = plan_of(tmp_path, root, text)
    assert again.source.key == some.source.key
    assert again.target.key == some.target.key
    again.source.data.require_same_files([IMAGES, LABELS], again.source.cases)
    shutil.copy(root / "i" / "ldn_1.nii.gz", root / "i" / "ldn_2.nii.gz")
    assert plan_of(tmp_path, root, text).source.key != some.source.key


def test_check_counts_the_chosen(tmp_path: Path, root: Path) -> None:
    plan = plan_of(tmp_path, root, 'source.cases = ["ldn_*"]')
    assert len(check_data(plan.checked.recipe, root).splits["source"]) == 2


def test_a_list_does_not_come_from_outside(tmp_path: Path, root: Path) -> None:
    (tmp_path / "secret.txt").write_text("ldn_1\n", encoding="utf-8")
    (root / "list.txt").symlink_to(tmp_path / "secret.txt")
    recipe = plan_of(tmp_path, root, 'source.cases = "list.txt"').checked.recipe
    with pytest.raises(DataError, match=r"list\.txt leads to"):
        check_data(recipe, root)
    assert len(check_data(recipe, root, allow_outside=True).splits["source"]) == 1


def test_the_embedded_cohort_is_used_whole(tmp_path: Path) -> None:
    checked = load(SHIPPED / "smoke.toml", ['data.source.exclude=["crossmoda2021_ldn_1"]'])
    with pytest.raises(DataError, match="embedded cohort is used whole"):
        Planner(checked, None).plan()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('data.source.cases="../list.txt"', "below the data folder"),
        ('data.source.cases="/etc/passwd.txt"', "below the data folder"),
        ('data.source.cases="list.doc"', r"ends with \.txt"),
        ("data.source.cases=[]", "either ids or a file"),
        ('data.source.cases={file="a.json", part="test"}', r"source\.cases\.part"),
        ('data.source.cases={fil="a.json"}', "unknown key 'fil'"),
        ("data.target.exclude=3", r"target\.exclude"),
        ("preprocess.source.spacing_mm=[1.0, 1.0, 1.0]", "both domains share one grid"),
        ("preprocess.target.crop=[32, 32]", "both domains share one grid"),
        ("preprocess.target.windows=[0.0, 1.0]", "did you mean 'window'"),
        ("preprocess.window=[0.0, 1.0]", "window replaces clip_fractions"),
        ("preprocess.source={window=[0.0, 1.0], clip_fractions=[0.0, 1.0]}", "either window or"),
    ],
)
def test_what_a_recipe_cannot_say_is_said(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(SHIPPED / "smoke.toml", [setting])
    assert "1 problem" in str(caught.value)


def test_domains_have_their_own_range_on_one_grid() -> None:
    settings = ["preprocess.source.window=[-160.0, 240.0]", 'preprocess.source.center="body"']
    checked = load(SHIPPED / "smoke.toml", settings)
    plan = Planner(checked, None).plan()
    source, target = plan.source.options, plan.target.options
    assert (source.window, source.clip_fractions, source.center) == ((-160, 240), (0, 1), "body")
    assert (target.window, target.clip_fractions, target.center) == (None, (0, 0.999), "head")
    assert plan.validation is not None
    assert plan.validation.options == target == checked.segmentation.preprocess
    oracle = next(step for step in plan.steps if step.name == "prepare-oracle")
    assert oracle.options == target
    plain = Planner(load(SHIPPED / "smoke.toml"), None).plan()
    assert plain.target.key == plan.target.key
    assert plain.source.key != plan.source.key


def test_the_last_round_changes_the_target_table() -> None:
    settings = ["preprocess.target.window=[0.0, 900.0]", 'pseudo_label.last.train_on="target"',
                "pseudo_label.last.preprocess.crop=[80, 56]"]  # fmt: skip
    last = load(SHIPPED / "smoke.toml", settings).last.preprocess
    assert (last.window, last.crop) == ((0, 900), (80, 56))
