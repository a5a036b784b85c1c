"""Plugins that are distributions of their own, which the core and its wheel do not know."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from crossmod.recipe.load import load_all
from crossmod.stages import code, entry_points, find
from crossmod.stages.explain import option_rows

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(ROOT.glob("plugins/crossmod-*"))
PUBLIC = {"crossmod", "crossmod.torch", "crossmod.testing"}


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def package(folder: Path) -> Path:
    return folder / folder.name.replace("-", "_")


def points(folder: Path) -> dict[str, str]:
    """Name of each plugin -> its module."""
    found: dict[str, str] = project(folder)["project"]["entry-points"]["crossmod.plugins"]
    return found


@pytest.fixture
def installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[..., None]
) -> Iterator[Path]:
    """An empty folder to work in, where all of them can be used."""
    site = tmp_path / "site"
    site.mkdir()
    entries = [f"{name} = {module}" for one in FOLDERS for name, module in points(one).items()]
    install(site, "their_metadata", "", "[crossmod.plugins]\n" + "\n".join(entries) + "\n")
    for folder in (site, *FOLDERS):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    caches = (entry_points.offers, find.load, code._owners)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


def test_there_are_some() -> None:
    assert [folder.name for folder in FOLDERS] == [
        "crossmod-cut", "crossmod-histogram", "crossmod-nnunet",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_a_distribution_with_tests_and_a_page(folder: Path, installed: Path) -> None:
    about = project(folder)
    assert about["project"]["name"] == folder.name
    assert about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package(folder).name]
    assert about["project"]["version"] == project(ROOT)["project"]["version"]
    assert (package(folder) / "py.typed").exists()
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert list((folder / "tests").glob("test_*.py"))
    page = (folder / "README.md").read_text(encoding="utf-8")
    [(name, module)] = points(folder).items()
    assert f"./plugins/{folder.name}" in page
    assert f"use={name}" in page
    plugin = find.load(name)
    assert plugin.stage.__module__ == module
    listed = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE))))
    assert listed == {key for key, *_ in option_rows(plugin.stage.options_type)}
    for number, recipe in enumerate(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)):
        own = installed / f"mine{number}.toml"
        own.write_text(recipe, encoding="utf-8")
        assert load_all(own)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_uses_public_names_and_no_other_plugin(folder: Path) -> None:
    own = package(folder).name
    for file in package(folder).rglob("*.py"):
        for name in imported(ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
            top = name.partition(".")[0]
            assert name in PUBLIC or top == own or not top.startswith("crossmod"), (file, name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_asks_for_what_crossmod_asks_for(folder: Path) -> None:
    ours, theirs = (project(place)["project"] for place in (ROOT, folder))
    assert theirs["requires-python"] == ours["requires-python"]
    bounds = {Requirement(line).name: line for line in ours["dependencies"]}
    shared = [line for line in theirs["dependencies"] if Requirement(line).name in bounds]
    assert shared == [bounds[Requirement(line).name] for line in shared]
    [core] = [line for line in theirs["dependencies"] if Requirement(line).name == "crossmod"]
    assert ours["version"] in Requirement(core).specifier


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_large_packages_are_imported_late(folder: Path) -> None:
    tree = ast.parse((package(folder) / "__init__.py").read_text(encoding="utf-8"))
    tops = {name.partition(".")[0] for name in imported(tree.body)}
    assert not tops & {"torch", "nnunetv2", "nibabel"}


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that statements import from."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_core_and_its_wheel_know_none_of_them() -> None:
    wheel = project(ROOT)["tool"]["hatch"]["build"]["targets"]["wheel"]
    shipped = [*wheel["packages"], *wheel["force-include"]]
    for folder in FOLDERS:
        inside = package(folder)
        assert not any(inside.is_relative_to(ROOT / path) for path in shipped)
        for file in [*ROOT.glob("crossmod/**/*.py"), *ROOT.glob("plugins/crossmod_*/**/*.py")]:
            assert inside.name not in file.read_text(encoding="utf-8"), file


def test_the_recipe_that_compares_translators_is_valid(installed: Path) -> None:
    variants = load_all(ROOT / "plugins" / "translators.toml")
    uses = {
        one.variant: [use.plugin.identity["name"] for use in one.translators] for one in variants
    }
    assert uses == {
        name: ["repaint", plugin, "van-cittert"]
        for name, plugin in (
            ("cyclegan", "cyclegan"),
            ("fastcut", "cut"),
            ("histogram", "histogram"),
        )
    }


def test_the_recipe_that_compares_segmenters_is_valid(installed: Path) -> None:
    variants = load_all(ROOT / "plugins" / "segmenters.toml")
    assert [one.recipe.segment.use for one in variants] == ["unet3d", "nnunet"]
