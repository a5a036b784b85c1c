"""The page on the architecture names what exists, in the order that the contract has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "explanation" / "architecture.md", ROOT / "CONTRIBUTING.md"]
PLACE = re.compile(r"`((?:crossmod|docs|plugins|recipes|tests)/[\w./-]*)(?:::\w+)?`")
PLACEHOLDERS = re.compile(r"NAME|FORMAT")


def test_every_file_and_folder_that_is_named_exists() -> None:
    for page in PAGES:
        named = PLACE.findall(page.read_text(encoding="utf-8"))
        assert len(named) > 10
        missing = [n for n in named if not PLACEHOLDERS.search(n) and not (ROOT / n).exists()]
        assert not missing, page.name


def test_the_wings_are_the_layers_of_the_contract() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [
        contract["layers"]
        for contract in tables["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    [block] = re.findall(r"```text\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    groups = [[line.split()[0] for line in group.splitlines()] for group in block.split("\n\n")]
    assert groups == [layer.split(" | ") for layer in layers]
