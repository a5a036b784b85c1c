"""The examples in the docstrings of crossmod are right: each runs in an empty folder."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMPT = ">>> "


def with_examples() -> list[str]:
    """Modules that show one, found by their text: only these are imported, when their test runs."""
    files = sorted((ROOT / "crossmod").rglob("*.py"))
    shown = [file for file in files if PROMPT in file.read_text(encoding="utf-8")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in shown]


MODULES = with_examples()


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(name.removesuffix(".__init__"))
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


@pytest.mark.parametrize("wing", ["files", "intake", "recipe"])
def test_wings_whose_functions_stand_alone_show_how_they_are_used(wing: str) -> None:
    assert len([name for name in MODULES if name.startswith(f"crossmod.{wing}.")]) >= 3
