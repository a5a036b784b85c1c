"""Which content keys change when something does, and that another process finds the same ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from crossmod.recipe.load import load_all
from crossmod.run import sources
from crossmod.run.planner import Planner
from crossmod.run.steps import base
from crossmod.stages.find import Plugin

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


def keys(*settings: str) -> dict[str, str]:
    [checked] = load_all(SMOKE, settings)
    return {step.name: step.key for step in Planner(checked, None).plan().steps}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


def test_c12_a_new_library_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys()
    newer = {**base.library_versions(), "torch": "9.9"}
    monkeypatch.setattr(base, "library_versions", lambda: newer)
    assert changed(before, keys()) == set(before)


def test_c12_new_code_of_a_plugin_changes_what_depends_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = keys()
    digest = Plugin.code_digest.func
    monkeypatch.setattr(
        Plugin,
        "code_digest",
        property(lambda self: "new" if self.name == "singan-gba" else digest(self)),
    )
    after = changed(before, keys())
    assert {"augment-tumors-fit", "augment-tumors", "train-augmented", "train-round-1"} <= after
    assert not [n for n in after if "oracle" in n or "translate" in n or "prepare" in n]


def test_c11_one_option_changes_what_depends_on_it() -> None:
    after = changed(keys(), keys("translate.sharpen.iterations=1"))
    assert "translate-sharpen" in after
    assert not after & {"translate-gan-fit", "translate-gan", "train-oracle", "prepare-source"}


def test_the_level_of_determinism_belongs_to_the_key_of_what_plugins_make() -> None:
    after = changed(keys(), keys("determinism=seeded"))
    assert {"translate-gan-fit", "train-oracle", "predict-oracle-target"} <= after
    assert not [name for name in after if name.startswith(("prepare", "phantom"))]


def test_a_precision_that_a_recipe_asks_for_belongs_to_the_key() -> None:
    """Else results in another number format would be taken for it; `auto` takes what there is."""
    assert keys("precision=auto") == keys()
    after = changed(keys(), keys("precision=fp32"))
    assert {"translate-gan-fit", "train-oracle", "predict-oracle-target"} <= after
    assert not [name for name in after if name.startswith(("prepare", "phantom"))]
    assert changed(keys("precision=fp32"), keys("precision=bf16")) == after


def test_another_process_computes_the_same_keys() -> None:
    [checked] = load_all(SMOKE, ())
    for step in Planner(checked, None).plan().steps:
        before = step.key
        other = pickle.loads(pickle.dumps(step))
        assert "key" not in vars(other)
        assert other.key == before


def test_the_key_of_the_embedded_cohort_is_never_that_of_no_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "PHANTOM", tmp_path)
    with pytest.raises(ValueError, match="no files"):
        keys()
