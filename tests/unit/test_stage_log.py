"""What a stage says of its result is told during the run and kept with the result."""

from __future__ import annotations

import json

import pytest
from odd_plugin import Bench

from crossmod.run import execute as making
from crossmod.run.task import Remark

LOGS = """\
ctx.log("plain")
ctx.log("warning: too dark")
for volume in ctx.progress(volumes):
    ctx.log("again and again")
    ctx.metric(case=volume.case, dark=np.float32(0.5))
    yield volume
"""


def said(bench: Bench) -> list[str]:
    manifest = bench.store.manifest(bench.translate.key)
    assert manifest is not None
    lines: list[str] = manifest["log"]
    return lines


def test_lines_are_told_and_kept_once(bench: Bench) -> None:
    bench.offer(LOGS)
    assert bench.run().error is None
    assert said(bench) == ["plain", "warning: too dark", "again and again"]
    assert bench.warnings() == ["odd: too dark"]
    told = [one.text for one in bench.told if isinstance(one, Remark) and not one.warning]
    assert told[0] == "plain"


def test_figures_of_a_case_name_it(bench: Bench) -> None:
    bench.offer(LOGS)
    assert bench.run().error is None
    lines = (bench.store.path(bench.translate.key) / "training.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0] == {"case": "case-0", "dark": 0.5}


def test_a_talkative_plugin_does_not_fill_the_store(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "LINES_KEPT", 3)
    bench.offer("for n in range(9): ctx.log(n)\nyield from volumes")
    assert bench.run().error is None
    assert said(bench) == ["0", "1", "2"]


def test_a_line_that_is_no_unicode_text_can_be_written(bench: Bench) -> None:
    bench.offer("ctx.log('warning: \\ud800')\nyield from volumes")
    assert bench.run().error is None
    assert said(bench) == ["warning: \\ud800"]
