"""The JSON Schema of recipes takes what crossmod takes, and points at what it refuses."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from crossmod import DataError, Options, Translator, cli
from crossmod.recipe.begin import begin_recipe, extension
from crossmod.recipe.load import load_all
from crossmod.recipe.model import KINDS, Recipe
from crossmod.recipe.names import shipped
from crossmod.recipe.schema import recipe_schema
from crossmod.stages import find


@cache
def validator() -> jsonschema.Draft7Validator:
    schema = recipe_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def faults(text: str) -> list[tuple[str, str]]:
    """Where and what, of each problem that an editor would show."""
    found = validator().iter_errors(tomllib.loads(text))
    return [(".".join(map(str, error.absolute_path)), error.message) for error in found]


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_fit(name: str) -> None:
    assert not faults(shipped()[name].read_text(encoding="utf-8"))


def test_every_key_of_the_core_and_of_the_plugins_is_explained() -> None:
    schema = validator().schema
    assert {*Recipe.model_fields, "schema", "extends", "variants"} == {*schema["properties"]}
    for name in find.available():
        plugin = find.load(name)
        keys = schema["definitions"][KINDS[plugin.kind].table.__name__]["properties"]
        assert {*plugin.stage.options_type.model_fields} < {*keys}
        assert name in keys["use"]["enum"]
        assert plugin.summary in keys["use"]["x-taplo"]["docs"]["enumValues"]
    crop = schema["definitions"]["PreprocessTable"]["properties"]["crop"]
    assert crop["description"].startswith("In-plane voxels kept")
    folds = schema["definitions"]["SegmentTable"]["properties"]["folds"]
    assert (folds["minimum"], folds["maximum"], folds["default"]) == (1, 100, 1)


BASE = 'extends = "quickstart"\n'

FITTING = [
    BASE + "seed = 3",
    BASE + "augment = false\n[data]\nclasses.cochlea = false",
    BASE + "[segment]\npatch = false\niterations = 5",
    BASE + "[translate.gan]\niterations = 5",
    BASE + '[data]\nsource.cases = ["a", "b"]\ntarget.exclude = "bad.txt"',
    BASE + "[pseudo_label.last]\nsegment.folds = 5\nsegment.iterations = 9",
    BASE + "[variants.a]\ntranslate.gan.fit_on = { center = 'etz' }\n[variants.b]\naugment=false",
    BASE + '[augment.tumors]\nuse = "naive-rescale"\ngroups = [{ name = "a", means = [0.1] }]',
    "[variants.a]\nseed = 1",
]

REFUSED = {
    'titel = "t"': ("", "'titel' was unexpected"),
    'seed = "3"': ("seed", "not of type"),
    'device = "auto"\nprecision = "fp8"': ("precision", "'fp8' is not one of"),
    "augment = true": ("augment", "should not be valid under"),
    "[segment]\niterations = 0": ("segment.iterations", "less than the minimum"),
    '[segment]\nuse = "cyclegan"': ("segment.use", "is not one of ['unet3d'"),
    "[segment]\npatchs = [1]": ("segment", "'patchs' was unexpected"),
    '[translate.a]\nuse = "van-cittert"\nblocks = 2': ("translate.a", "'blocks' was unexpected"),
    "[translate.gan]\nblocks = 1.5": ("translate.gan.blocks", "not of type"),
    "[preprocess]\nspacing_mm = [1, 1]": ("preprocess.spacing_mm", "too short"),
    "[data]\nclasses.tumor = 0": ("data.classes.tumor", "not valid under any"),
    "[variants.'a b']\nseed = 1": ("variants", "does not match"),
    "[variants.a]\nextends = 'b'": ("variants.a", "'extends' was unexpected"),
    "[pseudo_label.last]\nsegment.fold = 5": ("pseudo_label.last.segment", "'fold' was unexpected"),
}


@pytest.mark.parametrize("text", FITTING)
def test_parts_of_recipes_fit(text: str) -> None:
    assert not faults(text)


@pytest.mark.parametrize("text", REFUSED)
def test_problems_are_pointed_at(text: str) -> None:
    where, what = REFUSED[text]
    found = faults(BASE + text)
    assert [place for place, _ in found] == [where]
    assert what in found[0][1]


def test_a_recipe_that_extends_none_is_whole() -> None:
    found = dict(faults('title = "t"\n[data]\nsource.images = "{case}.nii"\n'))
    assert {*found} == {"", "data", "data.source"}
    assert "'labels' is a required property" in found["data.source"]


def test_forms_that_editors_read() -> None:
    """Taplo follows references that stand alone, and completes no table that `allOf` composes."""

    def look(node: Any) -> None:
        if isinstance(node, dict):
            assert not isinstance(node.get("$ref"), str) or len(node) == 1
            assert not {"allOf", "$defs", "prefixItems"} & {*node}
        for inner in node.values() if isinstance(node, dict) else node:
            if isinstance(inner, dict | list):
                look(inner)

    look(validator().schema)


def test_a_new_recipe_is_the_old_one_until_a_line_is_uncommented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, schema = begin_recipe(Path("mine"), Path("quickstart"))
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"#:schema ./{schema.name}\n")
    assert json.loads(schema.read_text(encoding="utf-8")) == validator().schema
    [mine], [base] = load_all(file), load_all(Path(shipped()["quickstart"]))
    changed = mine.recipe.model_copy(update={"title": base.recipe.title})
    assert (changed, mine.uses) == (base.recipe, base.uses)
    edited = text.replace("# [segment]\n", "[segment]\n").replace(
        "# batch_size = 1", "batch_size = 3"
    )
    file.write_text(edited, encoding="utf-8")
    assert load_all(file)[0].uses["segment", ""].options.batch_size == 3  # type: ignore[attr-defined]


def test_a_new_recipe_is_not_written_over_what_it_extends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, _ = begin_recipe(Path("first"), Path("quickstart"))
    second, _ = begin_recipe(Path("second"), first)
    (tmp_path / "linked.toml").symlink_to(first.absolute())
    (tmp_path / "hard.toml").hardlink_to(first)
    text = first.read_bytes()
    for file, base in (
        ("first.toml", "first.toml"),
        ("first", "./first.toml"),
        (str(tmp_path / "first"), "first"),
        (f"../{tmp_path.name}/first", "first"),
        ("first", "linked.toml"),
        ("first", "hard.toml"),
        ("hard", "first"),
        ("first", "second"),  # which would extend itself
    ):
        with pytest.raises(DataError, match="the command reads it"):
            begin_recipe(Path(file), Path(base))
    assert first.read_bytes() == text
    assert load_all(second)


@pytest.mark.parametrize("name", shipped())
def test_uncommented_a_new_recipe_says_what_the_old_one_says(name: str, tmp_path: Path) -> None:
    base = shipped()[name]
    head, _, body = extension(tmp_path / "mine.toml", base).partition('title = "mine"\n')
    again = tomllib.loads("\n".join(line.removeprefix("# ") for line in body.splitlines()))
    own = tomllib.loads(base.read_text(encoding="utf-8"))
    assert again == {key: value for key, value in own.items() if key not in ("title", "extends")}
    assert tomllib.loads(head) == {"extends": name}


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["crossmod", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return f"{stopped.value.code}\n{''.join(capsys.readouterr())}"

    assert json.loads(call("schema").removeprefix("0\n")) == validator().schema
    assert "#:schema ./a.json" in call("schema", "--out", "a.json")
    assert call("new", "recipe", "mine").startswith("0\nmine.toml\nrecipe.schema.json\n")
    Path("mine.toml").write_text("edited = 1\n", encoding="utf-8")
    refused = call("new", "recipe", "mine")
    assert refused.startswith("3\n")
    assert "mine.toml: was not written by crossmod new recipe, or was changed since" in refused
    assert call("new", "recipe", "mine", "--from", "nowhere").startswith("2\n")


def test_an_option_of_several_plugins_says_whose_it_is() -> None:
    keys = validator().schema["definitions"]["TranslateTable"]["properties"]
    told = [one["description"] for one in keys["iterations"]["anyOf"] if isinstance(one, dict)]
    assert [text.partition(":")[0] for text in told] == ["cyclegan", "van-cittert"]


class Data(Options):
    """Options that are called as a table of recipes is."""

    depth: int = 3
    """How deep."""


class Other(Translator[Data]):
    """A translator of another package."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
        raise NotImplementedError


def test_an_option_that_names_a_center_says_so() -> None:
    definitions = recipe_schema()["definitions"]
    told = definitions["FitOn"]["properties"]["center"]["description"]
    assert told.endswith(" A name in [data.centers].")


def test_options_may_be_called_as_the_core_calls_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = find.Plugin("other", find.available()["cyclegan"], Other)
    monkeypatch.setattr("crossmod.recipe.schema._plugins", lambda: {"other": other})
    found = jsonschema.Draft7Validator(recipe_schema())
    assert found.is_valid({"extends": "a", "translate": {"t": {"use": "other", "depth": 2}}})
    assert found.is_valid({"extends": "a", "data": {"classes": {"tumor": 1}}})
    assert not found.is_valid({"extends": "a", "translate": {"t": {"use": "other", "deep": 2}}})
    assert not found.is_valid({"extends": "a", "data": {"depth": 1}})
    assert not found.is_valid({"extends": "a", "segment": {"use": "unet3d"}})
