"""The page on performance holds what the race prints."""

from __future__ import annotations

from pathlib import Path

from racing.limits import Limits
from racing.rounds import Result
from racing.table import OURS, Raced, page
from racing.works import works

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"


def test_the_table_of_the_page_has_the_form_of_the_race() -> None:
    work = works()[0]
    raced = [Raced(work, 1, {OURS: Result(trouble="not now")})]
    head = next(line for line in page(raced, Limits(), small=False) if line.startswith("| work"))
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(line.split(" | ")[0].removeprefix("| "))
    assert rows
    assert set(rows) <= {work.title for work in works()}
