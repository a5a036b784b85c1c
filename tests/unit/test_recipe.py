from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmod import RecipeError
from crossmod.recipe.files import merge
from crossmod.recipe.load import load, load_all
from crossmod.recipe.lock import locked
from crossmod.recipe.names import find_recipe
from crossmod.recipe.text import locate

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.glob("*.toml"))
BASE = """\
title = "t"
[data]
source.images = "s/{case}.nii.gz"
source.labels = "s/{case}_l.nii.gz"
target.images = "t/{case}.nii.gz"
centers = { ldn = "*" }
classes = { tumor = 1 }
[preprocess]
spacing_mm = [1, 1, 1]
[translate.gan]
use = "cyclegan"
epochs = 3
[segment]
use = "unet3d"
"""


def write(folder: Path, text: str, name: str = "r.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_name_no_machine_path(path: Path) -> None:
    assert all(checked.recipe.title for checked in load_all(path))
    assert "/home" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_locked_recipe_is_a_valid_recipe_that_locks_to_itself(
    path: Path, tmp_path: Path
) -> None:
    for checked in load_all(path):
        text = locked(checked)
        assert locked(load(write(tmp_path, text))) == text


def test_all_problems_come_at_once_with_file_line_and_nearest_name(tmp_path: Path) -> None:
    text = BASE.replace("epochs = 3", "epoch = 3").replace('title = "t"', 'titel = "t"')
    text = text.replace("spacing_mm = [1, 1, 1]", "spacing_mm = [1, 0, 1]")
    path = write(tmp_path, text.replace('"unet3d"', '"unet"'))
    with pytest.raises(RecipeError) as caught:
        load(path)
    message = str(caught.value)
    assert f"{path}:1: titel: unknown key 'titel'" in message
    assert "did you mean 'title'?" in message
    assert f"{path}:9: preprocess.spacing_mm.1: 0 is too small" in message
    assert f"{path}:12: translate.gan.epoch: unknown key 'epoch'" in message
    assert "did you mean 'epochs'?" in message
    assert f"{path}:14: segment.use: no plugin is called 'unet'" in message
    assert "did you mean 'unet3d'?" in message


def test_a_plugin_of_another_stage_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, BASE.replace('"cyclegan"\nepochs = 3', '"unet3d"'))
    with pytest.raises(RecipeError, match=r"'unet3d' is a plugin for \[segment\]"):
        load(path)


def test_a_misspelled_plugin_is_told_the_plugins_of_its_stage(tmp_path: Path) -> None:
    for name in ("cyclegam", "unet3d"):
        path = write(tmp_path, BASE.replace('"cyclegan"\nepochs = 3', f'"{name}"'))
        with pytest.raises(RecipeError) as caught:
            load(path)
        [allowed] = [line for line in str(caught.value).splitlines() if "allowed" in line]
        assert "cyclegan" in allowed
        assert "unet3d" not in allowed


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("translate.gan.epochs=0", ("0 is too small", "int from 1 to 1000000000")),
        ("translate.gan.epochs=1.5", ("1.5 has the wrong type", "int from 1 to 1000000000")),
        ("preprocess.crop=3",
         ("3 has the wrong type", "tuple of int from 1 to 10000, 2 items | none")),
        ("determinism=exac",
         ("'exac' is not one of the choices", '"exact" | "seeded" | "free"',
          "did you mean 'exact'?")),
        ("data.classes.tumor=[300]",
         ("300 is too large", "int from 1 to 255 | tuple of int from 1 to 255, at least 1 item")),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_all_that_its_key_takes(
    setting: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    path, (key, _, _) = write(tmp_path, BASE), setting.partition("=")
    with pytest.raises(RecipeError) as caught:
        load(path, [setting])
    head, first, *more = str(caught.value).splitlines()
    assert (head, first) == ("--set: 1 problem", f"--set {key}: {said[0]}")
    assert [line.strip() for line in more] == [f"allowed: {said[1]}", *said[2:]]


def test_unknown_centers_and_classes_are_named(tmp_path: Path) -> None:
    text = BASE.replace("epochs = 3", 'fit_on.center = "lnd"')
    path = write(tmp_path, text + '[evaluate]\nstructure = "tumour"\n')
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert "no center is called 'lnd'" in str(caught.value)
    assert "did you mean 'ldn'?" in str(caught.value)
    assert "no class is called 'tumour'" in str(caught.value)


def test_a_recipe_extends_another_and_errors_name_the_file_they_are_in(tmp_path: Path) -> None:
    write(tmp_path, BASE.replace("epochs = 3", "epochs = 0"), "base.toml")
    path = write(tmp_path, 'extends = "base.toml"\nseed = -1.5\n')
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert f"{tmp_path / 'base.toml'}:12: translate.gan.epochs" in str(caught.value)
    assert f"{path}:2: seed" in str(caught.value)


@pytest.mark.parametrize("named", ["quickstart", "quickstart.toml", "recipes/quickstart.toml"])
def test_extends_finds_shipped_recipes_from_anywhere(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("deep/mine.toml", "deep/quickstart.toml"):  # one that is called like it means it
        path = write(tmp_path, f'extends = "{named}"\ntitle = "mine"\n', name)
        checked = load(path)
        assert checked.recipe.title == "mine"
        assert checked.document.files == (path, RECIPES / "quickstart.toml")
        (tmp_path / name).unlink()
    monkeypatch.chdir("/")
    load(write(tmp_path, f'extends = "{named}"\n', "deep/other.toml"))


def test_a_recipe_beside_comes_before_a_shipped_one_with_and_without_its_ending(
    tmp_path: Path,
) -> None:
    write(tmp_path, BASE, "quickstart.toml")
    write(tmp_path, BASE, "v1.2.toml")
    for named in ("quickstart", "quickstart.toml", "v1.2", "v1.2.toml", "./quickstart"):
        assert load(write(tmp_path, f'extends = "{named}"\n')).recipe.title == "t"


def test_shipped_recipes_extend_each_other_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "smoke"\n', "quickstart.toml")
    names = [file.name for file in load(path).document.files]
    assert names == ["quickstart.toml", "smoke.toml", "quickstart.toml"]


def test_a_recipe_that_extends_itself_goes_in_a_circle_with_and_without_its_ending(
    tmp_path: Path,
) -> None:
    for named in ("a", "a.toml", "./a"):
        path = write(tmp_path, f'extends = "{named}"\n', "a.toml")
        with pytest.raises(RecipeError, match="in a circle"):
            load(path)


def test_a_file_without_an_ending_is_not_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smoke").write_text("notes", encoding="utf-8")
    (tmp_path / "mine").write_text("notes", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_recipe(Path("smoke")) == RECIPES / "smoke.toml"
    assert load(write(tmp_path, 'extends = "smoke"\ntitle = "t"\n')).recipe.title == "t"
    with pytest.raises(RecipeError, match="does not end with"):
        find_recipe(Path("mine"))


def test_what_cannot_be_extended_is_said_with_what_could(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for named in ("quickstrat", "folder", "", ".", "x/smoke"):
        path = write(tmp_path, f'extends = "{named}"\n')
        with pytest.raises(RecipeError) as caught:
            load(path)
        assert f"{path}:1: extends '{named}', which cannot be found" in str(caught.value)
        assert "quickstart" in str(caught.value)


def test_settings_override_and_are_named_in_errors(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    checked = load(path, ["translate.gan.epochs=7", "title=plain words"])
    assert checked.translators[0].options.epochs == 7  # type: ignore[attr-defined]
    assert checked.recipe.title == "plain words"
    with pytest.raises(
        RecipeError, match=r"^--set: 1 problem\n--set translate.gan.epochs: 'x' has"
    ):
        load(path, ["translate.gan.epochs=x"])
    with pytest.raises(RecipeError, match=r"r.toml: 2 problems\n"):
        load(write(tmp_path, BASE.replace("epochs = 3", "epochs = 0")), ["seed=x"])
    with pytest.raises(RecipeError, match="is not a setting"):
        load(path, ["seed"])


def test_false_removes_a_stage_and_another_plugin_replaces_its_options(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    assert load(path, ["translate=false"]).translators == ()
    assert load(path, ["translate.gan=false"]).translators == ()
    swapped = write(
        tmp_path, 'extends = "r.toml"\n[translate.gan]\nuse = "van-cittert"\n', "s.toml"
    )
    assert load(swapped).translators[0].plugin.name == "van-cittert"
    settings = ["translate.gan.fit_on.center=ldn", "translate.gan.use=van-cittert"]
    assert load(path, settings).recipe.translate["gan"].fit_on.center == "ldn"


VARIANTS = """\
[variants.plain]
[variants.one]
translate.gan.epochs = 1
[variants.none]
translate = false
[variants.other.translate.gan]
use = "van-cittert"
"""


def test_variants_merge_over_the_recipe_and_its_settings(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + VARIANTS)
    found = {checked.variant: checked for checked in load_all(path)}
    assert list(found) == ["plain", "one", "none", "other"]
    epochs = [found[name].translators[0].options.epochs for name in ("plain", "one")]  # type: ignore[attr-defined]
    assert epochs == [3, 1]
    assert found["none"].translators == ()
    assert found["other"].translators[0].plugin.name == "van-cittert"

    overridden = load_all(path, ["translate.gan.epochs=9", "variants.none=false"])[:2]
    assert [c.translators[0].options.epochs for c in overridden] == [9, 1]  # type: ignore[attr-defined]
    one = load_all(path, ["variants.one.translate.gan.epochs=4"])[1]
    assert one.translators[0].options.epochs == 4  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match="describes several runs"):
        load(path)
    assert len(load_all(path, ["variants=false"])) == 1


def test_seeds_repeat_every_variant(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + "[variants.a]\n[variants.b]\n")
    found = load_all(path, ["seeds=[5, 7]"])
    assert [(c.label, c.recipe.seed) for c in found] == [
        ("a-seed-5", 5),
        ("a-seed-7", 7),
        ("b-seed-5", 5),
        ("b-seed-7", 7),
    ]


def test_problems_of_variants_come_once_and_name_their_line(tmp_path: Path) -> None:
    text = BASE.replace("[preprocess]", "[preprocess]\ncrops = 3")
    path = write(tmp_path, text + "[variants.a]\ntranslate.gan.epoch = 1\n[variants.b]\n")
    with pytest.raises(RecipeError) as caught:
        load_all(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 2 problems")
    assert f"{path}:17: translate.gan.epoch: unknown key 'epoch'" in message
    with pytest.raises(RecipeError, match="cannot name a folder"):
        load_all(write(tmp_path, BASE + '[variants."../a"]\n'))
    with pytest.raises(RecipeError, match="a variant is a table of changes"):
        load_all(write(tmp_path, "variants.a = 3\n" + BASE))


ROUNDS = BASE + '[pseudo_label]\nuse = "self-training"\n'


def test_the_last_round_changes_what_it_says(tmp_path: Path) -> None:
    last = (
        'last = { train_on = "target", preprocess = { spacing_mm = [2, 2, 2] },'
        " segment = { epochs = 7, folds = 2 } }\n"
    )
    checked = load(write(tmp_path, ROUNDS + last))
    assert checked.last.preprocess.spacing_mm == (2, 2, 2)
    assert checked.last.table.folds == 2
    assert checked.last.use.options.epochs == 7  # type: ignore[attr-defined]
    assert checked.segmentation.use.options.epochs == 500  # type: ignore[attr-defined]
    usual = load(write(tmp_path, ROUNDS))
    assert usual.last == usual.segmentation
    assert load(write(tmp_path, ROUNDS + last), ["pseudo_label.last=false"]).last.table.folds == 1


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("preprocess = { spacing_mm = [2, 2, 2] }", "translated images exist on one grid"),
        ("segment = { epoch = 7 }", "unknown key 'epoch'"),
        ('preprocess = { crops = 1 }\nlast.train_on = "target"', "unknown key 'crops'"),
        (
            'preprocess = { crop = [2, 2] }\nlast.train_on = "target"\nwarm_start = true',
            "cannot start",
        ),
        ("segment = { folds = 3 }\nwarm_start = true", "cannot start from the weights"),
    ],
)
def test_a_last_round_that_cannot_be_is_refused(last: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=words):
        load(write(tmp_path, ROUNDS + "last." + last + "\n"))


def test_classes_may_be_chosen_and_merged(tmp_path: Path) -> None:
    text = BASE.replace("{ tumor = 1 }", "{ tumor = [1, 2], cochlea = 3 }")
    classes = load(write(tmp_path, text)).recipe.data.class_table
    assert classes.labels == {"tumor": 1, "cochlea": 2}
    file = np.array([0, 1, 2, 3, 9], np.uint8)
    assert classes.to_labels(file).tolist() == [0, 1, 1, 2, 0]
    assert classes.to_values(classes.to_labels(file)).tolist() == [0, 1, 1, 3, 0]
    with pytest.raises(RecipeError, match="have the same value"):
        load(write(tmp_path, BASE.replace("{ tumor = 1 }", "{ tumor = 1, cochlea = [2, 1] }")))


def test_locate_knows_tables_arrays_and_dotted_keys() -> None:
    text = "a = 1\n[b.c]\nd.e = 2\n[[f.g]]\nh = 1\n[[f.g]]\nh = 2\n"
    assert tomllib.loads(text)
    assert locate(text) == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 2,
        ("b", "c", "d"): 3,
        ("b", "c", "d", "e"): 3,
        ("f",): 4,
        ("f", "g"): 4,
        ("f", "g", 0): 4,
        ("f", "g", 0, "h"): 5,
        ("f", "g", 1): 6,
        ("f", "g", 1, "h"): 7,
    }


def test_locate_sees_keys_however_they_are_written() -> None:
    text = (
        'title = """\n[segment]\nepochs = 3\n"""  # [translate]\n'
        '"lerning rate" = 1\r\n'
        "x . 'y' = [  # \u2028 \u0085\n  {a = 1},\n  '''\n[']'''\n]\n"
        '[ "seg\\u006dent" ]\n'
        "use = 1\n"
    )
    assert tomllib.loads(text.replace("\r\n", "\n"))
    assert locate(text) == {
        ("title",): 1,
        ("lerning rate",): 5,
        ("x",): 6,
        ("x", "y"): 6,
        ("segment",): 11,
        ("segment", "use"): 12,
    }


TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(
    st.dictionaries(st.sampled_from("abc"), TREES), st.dictionaries(st.sampled_from("abc"), TREES)
)
def test_merging_twice_changes_nothing_more(under: dict, over: dict) -> None:  # type: ignore[type-arg]
    once = merge(under, over)
    assert merge(once, over) == once
    assert set(once) == set(under) | set(over)


def test_a_new_translator_stands_before_the_one_that_follows_it(tmp_path: Path) -> None:
    added = '[translate.first]\nuse = "repaint"\nstructures = [{ means = [0.3] }]\n'
    child = tmp_path / "child.toml"
    for after, order in (
        ("", ["paint", "gan", "sharpen", "first"]),
        ("[translate.gan]\n", ["paint", "first", "gan", "sharpen"]),
        ("[translate.sharpen]\n", ["paint", "gan", "first", "sharpen"]),
    ):
        child.write_text(f'extends = "quickstart"\n{added}{after}')
        [checked] = load_all(child, [])
        assert list(checked.recipe.translate) == order


def test_what_a_table_sets_is_blamed_on_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, (RECIPES / "smoke.toml").read_text(encoding="utf-8"))
    with pytest.raises(
        RecipeError, match=r"--set segment: segment.folds: 'two' has the wrong type"
    ):
        load(path, ['segment={folds="two"}'])
