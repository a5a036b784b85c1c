"""The tables of the page on costs are those that its script prints."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "cost.md"


@pytest.mark.slow
def test_the_page_shows_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(PAGE.with_name("count_operations.py")), run_name="__main__")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 5
    page = PAGE.read_text(encoding="utf-8")
    for table in tables:
        assert table in page
