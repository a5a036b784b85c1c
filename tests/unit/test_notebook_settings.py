"""Changes of a recipe as values of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossmod
from crossmod import RecipeError
from crossmod.notebook.settings import written
from crossmod.recipe.load import load
from crossmod.recipe.text import parse_value

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"

VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("ab.- é", min_size=1), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def read(value: Any) -> Any:
    """A value as it comes out of the setting that is written of it."""
    [setting] = written({"key": value})
    return parse_value(setting.removeprefix("key="), "--set")


@given(VALUES)
def test_values_come_out_of_settings_as_they_were(value: Any) -> None:
    assert read(value) == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(2), 2),
        (np.float32(0.5), 0.5),
        (np.True_, True),
        (np.ones(3), [1.0, 1.0, 1.0]),
        (np.eye(2, dtype=int), [[1, 0], [0, 1]]),
        (range(3), [0, 1, 2]),
        ((1, np.int8(2)), [1, 2]),
        (Path("a b/c"), "a b/c"),
        ({"folder": Path("a"), "sizes": (np.float64(1),)}, {"folder": "a", "sizes": [1.0]}),
    ],
    ids=str,
)
def test_values_of_numpy_and_paths_are_those_of_recipes(value: Any, plain: Any) -> None:
    assert (read(value), type(read(value))) == (plain, type(plain))


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"seed": None}, "seed"),
        ({"seed": {1, 2}}, "seed"),
        ({"segment": {"folds": [1, b"2"]}}, "segment.folds[1]"),
        ({"data.classes": {3: 1}}, "data.classes"),
        ({"seed": np.datetime64("2020-01-01")}, "seed"),
    ],
)
def test_a_value_of_no_recipe_names_its_key(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(RecipeError) as caught:
        written(settings)
    assert caught.value.where == where
    assert caught.value.allowed


@pytest.mark.parametrize("settings", [["segment.folds=2"], "segment.folds=2", {3: 1}])
def test_settings_are_a_dictionary_of_texts(settings: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        written(settings)
    assert caught.value.where == "set"
    assert caught.value.allowed


def test_tables_and_lists_of_tables_are_set() -> None:
    settings = {
        "segment": {"folds": np.int64(2)},
        "data.classes": {"tumor": [1, 2], "cochlea": 3},
        "augment.tumors.groups": [{"name": "all", "factors": (0.5, 0.6)}],
    }
    checked = load(SMOKE, written(settings))
    assert checked.recipe.segment.folds == 2
    assert checked.document.tables["data"]["classes"] == {"tumor": [1, 2], "cochlea": 3}
    groups = checked.document.tables["augment"]["tumors"]["groups"]
    assert groups == [{"name": "all", "factors": [0.5, 0.6]}]


def test_errors_of_a_run_name_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    calls: list[tuple[dict[str, Any], str]] = [
        ({"workers": "two"}, "workers: local.workers: "),
        ({"out": "file"}, "name a folder with `out`"),
        ({"set": {"segment.folds": "two"}}, "\nset segment.folds: "),
    ]
    for arguments, what in calls:
        with pytest.raises(crossmod.CrossmodError) as caught:
            crossmod.run("smoke", quiet=True, **arguments)  # type: ignore[operator]
        assert what in str(caught.value)
        assert "--" not in str(caught.value)
