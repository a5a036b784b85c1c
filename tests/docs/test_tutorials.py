"""The code in the tutorials runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from crossmod.recipe.files import Document
from crossmod.recipe.problems import explain

DOCS = Path(__file__).parents[2] / "docs"
PLUGINS = DOCS.with_name("plugins")


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_translator_of_the_tutorial_keeps_the_contract(tmp_path: Path) -> None:
    plugin, test = blocks("tutorials/write-a-translator.md", "python")
    module = ModuleType("crossmod_histogram")
    code = compile(plugin + test, "tutorial", "exec", dont_inherit=True)
    exec(code, module.__dict__)
    assert len([line for line in plugin.splitlines() if line.strip()]) <= 25
    module.test_histogram_matching(tmp_path)


def test_the_metadata_of_the_tutorial_is_an_entry_point() -> None:
    metadata, recipe = blocks("tutorials/write-a-translator.md", "toml")
    points = tomllib.loads(metadata)["project"]["entry-points"]["crossmod.plugins"]
    assert tomllib.loads(recipe)["translate"]["gan"]["use"] in points


def test_the_limits_of_the_tutorial_are_told_as_it_says() -> None:
    [code] = [one for one in blocks("tutorials/write-a-translator.md", "py") if "Annotated" in one]
    [told] = blocks("tutorials/write-a-translator.md", "text")
    module = ModuleType("crossmod_curve")
    exec(compile(code, "tutorial", "exec", dont_inherit=True), module.__dict__)
    where = ("translate", "gan")
    keys = ("kernel", "edge", "gamma")
    lines = {(*where, key): f"recipe.toml:{line}" for line, key in enumerate(keys, start=9)}
    document = Document(Path("recipe.toml"), {}, lines, ())
    with pytest.raises(ValidationError) as caught:
        module.CurveOptions(kernel=4, edge="zeros", gamma=3.0)
    said = explain(caught.value, where, module.CurveOptions, document)
    assert "\n".join(said) == told.strip()


def test_pages_link_to_files_that_exist() -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md"), *PLUGINS.glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
