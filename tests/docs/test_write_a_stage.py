"""The pages on writing a stage show what `crossmod new` writes. CROSSMOD_WRITE_DOCS=1 fills in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from crossmod import scaffold
from crossmod.testing import check_stage

PAGES = {
    "translator": "write-a-translator",
    "augmenter": "write-an-augmenter",
    "segmenter": "write-a-segmenter",
    "pseudo-labeler": "write-a-pseudo-labeler",
}
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
FILE = re.compile(r"(`([\w./]+)`[^\n`]*:\n\n```(?:python|toml)\n)(.*?)(```\n)", re.DOTALL)
COMMAND = re.compile(r"crossmod new (\S+) (\S+)")


def as_written(kind: str, page: str) -> str:
    """The page with the files that its command writes."""
    found = COMMAND.search(page)
    assert found
    assert found[1] == kind
    files = dict(scaffold.files_of(scaffold.names_of(found[2], kind)))
    shown = {path.as_posix(): text for path, text in files.items()}
    return FILE.sub(lambda block: block[1] + shown[block[2]] + block[4], page)


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_shows_what_the_command_writes(kind: str) -> None:
    path = HOW_TO / f"{PAGES[kind]}.md"
    page = path.read_text(encoding="utf-8")
    if os.environ.get("CROSSMOD_WRITE_DOCS"):
        path.write_text(as_written(kind, page), encoding="utf-8")
        page = path.read_text(encoding="utf-8")
    assert len(FILE.findall(page)) >= 3
    assert page == as_written(kind, page)


def test_the_translator_that_looks_at_labels_keeps_the_contract(tmp_path: Path) -> None:
    page = (HOW_TO / "write-a-translator.md").read_text(encoding="utf-8")
    [code] = [
        text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Pair" in text
    ]
    module = ModuleType("crossmod_two_tones")
    exec(compile(code, "page", "exec", dont_inherit=True), module.__dict__)
    check_stage(module.TwoTones(), tmp_path)


def test_the_options_that_choose_lesions_are_those_of_the_core() -> None:
    page = (HOW_TO / "write-an-augmenter.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    module = ModuleType("crossmod_mine")
    whole = compile("from crossmod import *\n" + code, "page", "exec", dont_inherit=True)
    exec(whole, module.__dict__)
    group = {"name": "all", "factors": [0.7]}
    assert module.MineOptions(groups=[group]).groups[0].factors == (0.7,)
