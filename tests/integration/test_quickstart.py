"""What the quickstart promises, measured: minutes of training, so not part of every test run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from program import ROOT, Program, Result

QUICKSTART = ROOT / "recipes" / "quickstart.toml"


def tumor_dice(result: Result, stage: str) -> float:
    scores = [
        float(row["dice"])
        for row in result.scores()
        if (row["split"], row["stage"], row["class"]) == ("validation", stage, "tumor")
    ]
    return sum(scores) / len(scores)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_adapts_within_ten_minutes(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")  # all cores, as a user would
    begin = time.monotonic()
    result = program.run("quickstart", "--workers", "2", recipe=QUICKSTART)
    minutes = (time.monotonic() - begin) / 60
    last = tumor_dice(result, result.stages()[-1])
    assert minutes < 10
    assert tumor_dice(result, "no-adaptation") < 0.3
    assert last >= tumor_dice(result, "no-adaptation") + 0.25
    assert last >= 0.7 * tumor_dice(result, "oracle")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_adapts_on_a_cohort_it_was_not_tuned_on(
    program: Program, tmp_path: Path
) -> None:
    cohort = tmp_path / "cohort"
    program("data", "phantom", cohort, "--seed", "71")
    result = program.run("unseen", "--data", cohort, "--workers", "2", recipe=QUICKSTART)
    gain = tumor_dice(result, result.stages()[-1]) - tumor_dice(result, "no-adaptation")
    assert gain >= 0.2
