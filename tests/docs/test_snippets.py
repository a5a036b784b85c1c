"""What the pages tell users to write works where a user writes it: in an empty folder.

Every TOML block is a recipe, a part of one, a profile, or the metadata of a plugin; every command
in a block of shell lines is one that the program takes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from crossmod import cli
from crossmod.engines import door
from crossmod.engines.profile import Profile, read_profile
from crossmod.recipe.load import load_all
from crossmod.recipe.model import Recipe
from crossmod.recipe.names import recipe_file
from crossmod.run.planner import Planner

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
OF_A_RECIPE = {*Recipe.model_fields, "extends", "variants"}
OF_A_PROFILE = {*Profile.model_fields, *door.available()}
OWN_PLUGIN = "docs/tutorials/write-a-translator.md"
SCAFFOLDED = tuple(
    f"docs/how-to/write-{kind}"
    for kind in ("a-translator", "an-augmenter", "a-segmenter", "a-pseudo-labeler")
)
"""Pages whose recipes use what `crossmod new` writes; test_scaffold.py checks them."""
OWN_ENGINE = ROOT / "docs" / "how-to" / "write-an-engine.md"  # test_engines.py runs what it says

QUESTIONS = ROOT / "docs" / "how-to" / "questions.md"
"""Whose answers are commands in a table."""
PARTS = ("crossmod data export", "crossmod data import --channel 1")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def named(page: Path, number: int) -> str:
    return f"{page.relative_to(ROOT)}-{number}"


TOML = {
    named(page, n): text
    for page in PAGES
    if page != OWN_ENGINE and not page.parent.name.startswith("crossmod-")
    for n, text in enumerate(blocks(page, "toml"))
}
METADATA = {name: text for name, text in TOML.items() if "project" in tomllib.loads(text)}
PROFILES = {name: text for name, text in TOML.items() if {*tomllib.loads(text)} <= OF_A_PROFILE}
RECIPES = {
    name: text for name, text in TOML.items() if name not in METADATA and name not in PROFILES
}


def as_recipe(text: str) -> str:
    """A part of a recipe over a shipped one; options alone are those of an augmenter."""
    keys = {*tomllib.loads(text)}
    if not keys & OF_A_RECIPE:
        text = f"[augment.tumors]\n{text}"
    return text if "extends" in keys else f'extends = "quickstart"\n{text}'


def test_the_pages_hold_what_is_tested_here() -> None:
    assert len([text for text in RECIPES.values() if text.startswith("extends")]) >= 5
    assert len(PROFILES) >= 3
    assert [name.rpartition("-")[0] for name in METADATA] == [OWN_PLUGIN]


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if not name.startswith((OWN_PLUGIN, *SCAFFOLDED))]
)
def test_recipes_are_valid_in_an_empty_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(as_recipe(RECIPES[name]), encoding="utf-8")
    assert load_all(Path("mine.toml"))


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_valid(name: str, tmp_path: Path) -> None:
    (tmp_path / "profile.toml").write_text(PROFILES[name], encoding="utf-8")
    read_profile(tmp_path / "profile.toml")


def test_the_recipe_of_a_plugin_of_ones_own_is_valid_where_it_is_installed(
    tmp_path: Path, install: Callable[..., None]
) -> None:
    [recipe] = [text for name, text in RECIPES.items() if name.startswith(OWN_PLUGIN)]
    [metadata] = METADATA.values()
    [points] = tomllib.loads(metadata)["project"]["entry-points"].values()
    [(name, module)] = points.items()
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    entries = f"[crossmod.plugins]\n{name} = {module}\n"
    install(site, module, blocks(ROOT / OWN_PLUGIN, "python")[0], entries)
    (work / "mine.toml").write_text(recipe, encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "crossmod"), "check", "mine.toml"],
        cwd=work, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    if page == QUESTIONS:
        found = re.findall(r"`(crossmod [^`]* [^`]*)`", page.read_text(encoding="utf-8"))
        lines += [line for line in found if line not in PARTS]
    calls = (re.match(r"\s*(?:.* && \S*/)?crossmod (.*)", line) for line in lines)
    return [call[1].partition("  #")[0] for call in calls if call]


CALLS = sorted({(page.name, line) for page in PAGES for line in commands(page)})


def take(line: str) -> None:
    """Parse a command as the program does: names, options and their values; nothing is run."""
    command: Any = get_command(cli.app)
    words = [word for word in shlex.split(line) if word != "--traceback"]  # wherever it stands
    while inner := getattr(command, "commands", None):  # typer's click is not click
        command = inner[words.pop(0)]
    for word in words:
        if word.isupper():  # DIR, PREDICTIONS: the user's own
            Path(word).touch() if "." in word else Path(word).mkdir()
        if word.startswith("recipes/"):
            assert recipe_file(word, Path())
    command.make_context(command.name, words)


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[" ".join(call) for call in CALLS])
def test_commands_are_taken(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    take(line)


@pytest.mark.parametrize(
    "line",
    ["check mine.toml --nonsense", "package runs/mine", "predict model scans out --format x"],
)
def test_commands_that_the_program_refuses_are_not_taken(line: str) -> None:
    with pytest.raises(Exception, match=r"nonsense|model|'x'"):
        take(line)


def test_a_command_that_does_not_exist_is_not_taken() -> None:
    with pytest.raises(KeyError):
        take("nonsense mine.toml")


def test_pages_count_the_steps_that_a_run_has() -> None:
    [checked] = load_all(ROOT / "recipes" / "smoke.toml")
    count = len(Planner(checked, None).plan().steps)
    for page in ("store", "watch"):
        text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
        assert {*re.findall(r"\b\d+/(\d\d) ", text)} == {str(count)}, page
