from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

import crossmod
from crossmod import PluginError, Translator, hookimpl
from crossmod.stages import entry_points, find
from crossmod.stages.explain import described, option_rows, plugin_rows

BUILT_IN = {
    "cyclegan": "translate",
    "van-cittert": "translate",
    "naive-rescale": "augment",
    "repaint": "translate",
    "singan-gba": "augment",
    "unet3d": "segment",
    "self-training": "pseudo_label",
}


def test_the_built_in_plugins_come_through_entry_points() -> None:
    found = {name: find.load(name).kind for name in find.available()}
    assert {name: found[name] for name in BUILT_IN} == BUILT_IN


def test_the_core_names_no_plugin() -> None:
    core = Path(crossmod.__file__).parent
    for path in core.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in BUILT_IN if f'"{name}"' in text], path


def test_importing_crossmod_and_every_plugin_does_not_import_torch() -> None:
    code = (
        "import sys; from crossmod import cli; from crossmod.stages import find; "
        "[find.load(name) for name in find.available()]; "
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_option_of_every_plugin_is_explained() -> None:
    for name in BUILT_IN:
        rows = option_rows(find.load(name).stage.options_type)
        assert rows or name == "none"
        assert not [key for key, _, _, meaning in rows if not meaning], name
    assert all(row[1] != "broken" and row[4] for row in plugin_rows())


def test_each_readme_names_every_option_and_has_a_recipe_block() -> None:
    folder = Path(crossmod.__file__).parents[1] / "plugins"
    for name in BUILT_IN:
        readme = (folder / f"crossmod_{name.replace('-', '_')}" / "README.md").read_text("utf-8")
        assert f'use = "{name}"' in readme
        for key, *_ in option_rows(find.load(name).stage.options_type):
            assert f"`{key.split('.')[0]}" in readme, f"{name}: {key}"


def test_programs_get_what_an_option_takes_as_facts() -> None:
    class Facts(crossmod.Options):
        steps: crossmod.Count = 1
        rate: Annotated[float, Field(gt=0, lt=2)] | None = None
        sides: tuple[Literal[3, 5], ...] = ()
        center: crossmod.CenterName | None = None

    found = {row["key"]: row for row in described(Facts)}
    assert [row["type"] for row in found.values()] == [
        "int from 1", "float above 0 below 2 | none", "tuple of 3 | 5", "name of a center | none",
    ]  # fmt: skip
    assert (found["steps"]["minimum"], found["steps"]["maximum"]) == (1, 1_000_000_000)
    assert (found["rate"]["exclusive_minimum"], found["rate"]["exclusive_maximum"]) == (0, 2)
    assert found["rate"]["minimum"] is None
    assert [row["choices"] for row in found.values()] == [None, None, [3, 5], None]
    assert [row["name_of"] for row in found.values()] == [None, None, None, "center"]


class Echo(Translator[crossmod.Options]):
    """Gives back what it gets."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
        yield from volumes


def offer(monkeypatch: pytest.MonkeyPatch, **entries: ModuleType | Exception) -> None:
    """Make modules, or failures to import, available as plugins."""
    points = {}
    for name, module in entries.items():
        point = EntryPoint(name, f"fake_{name}", "crossmod.plugins")
        points[name] = point
        if isinstance(module, ModuleType):
            monkeypatch.setitem(sys.modules, f"fake_{name}", module)
    monkeypatch.setattr(find, "available", lambda: points)
    find.load.cache_clear()
    for module in (find, entry_points):
        monkeypatch.setattr(module, "distribution_of", lambda entry: ("fakes", "1.2"))


def module_with(**attributes: Any) -> ModuleType:
    module = ModuleType("fake")
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def returning(value: Any) -> Any:
    @hookimpl
    def crossmod_stage() -> Any:
        return value

    return crossmod_stage


def test_a_good_plugin_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, echo=module_with(crossmod_stage=returning(Echo)))
    plugin = find.load("echo")
    assert (plugin.kind, plugin.summary) == ("translate", "Gives back what it gets.")


class Unfinished(Translator[crossmod.Options]):
    """Lacks its method."""


BROKEN: dict[str, tuple[ModuleType | None, str]] = {
    "missing": (None, "cannot be imported: ModuleNotFoundError"),
    "empty": (module_with(), "does not implement the hook"),
    "text": (module_with(crossmod_stage=returning("Echo")), "crossmod_stage returned 'Echo'"),
    "unfinished": (
        module_with(crossmod_stage=returning(Unfinished)),
        "Unfinished does not implement translate",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_with_its_version(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, words = BROKEN[name]
    offer(monkeypatch, **{name: module if module is not None else ImportError()})
    with pytest.raises(PluginError, match=words) as caught:
        find.load(name)
    assert f"plugin '{name}' (fakes 1.2)" in str(caught.value)


def test_a_misspelled_or_wrong_hook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def crossmod_stages() -> Any:
        return Echo

    @hookimpl
    def crossmod_stage(ctx: Any) -> Any:
        return Echo

    offer(
        monkeypatch,
        misspelled=module_with(crossmod_stages=crossmod_stages),
        wrong=module_with(crossmod_stage=crossmod_stage),
    )
    for name in ("misspelled", "wrong"):
        with pytest.raises(PluginError, match="crossmod_stage"):
            find.load(name)


def test_a_broken_plugin_leaves_the_others_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, echo=module_with(crossmod_stage=returning(Echo)), gone=ImportError())
    kinds = {row[0]: row[1] for row in plugin_rows()}
    assert kinds == {"echo": "translate", "gone": "broken"}


@pytest.fixture(autouse=True)
def _fresh_plugins() -> Any:
    yield
    find.load.cache_clear()
