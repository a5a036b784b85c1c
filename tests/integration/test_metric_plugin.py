"""A metric of somebody else's package: one entry, and it is wherever metrics are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from program import SMOKE, Program, Result
from sheets import rows_of

from crossmod.data.nifti import write_nifti

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "evaluate.md"
[METRIC] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ENTRIES = "[crossmod.metrics]\nhd95_twice = hd95_twice:HD95_TWICE\n"

RECIPE = f"""\
extends = "{SMOKE}"
title = "Smoke with a metric"
[variants.whole]
[variants.short]
pseudo_label = false
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, install: Callable[..., None]) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "hd95_twice", METRIC, ENTRIES)
    return folder


@pytest.fixture(scope="module")
def variants(after_smoke: Program, site: Path) -> Result:
    """Two variants of the smoke recipe with the metric; all but the scores is in the store."""
    recipe = after_smoke.folder / "metric.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return after_smoke.run("metric", recipe=recipe, path=site)


def number(text: str) -> float:
    return float(text or "nan")


def test_evaluate_has_its_column_its_mean_and_its_percentiles(
    program: Program, site: Path, tmp_path: Path
) -> None:
    reference = np.zeros((8, 8, 8), np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    for name, labels in (("near", np.roll(reference, 1, axis=0)), ("missed", 0 * reference)):
        write_nifti(tmp_path / "found" / f"{name}.nii.gz", labels, np.eye(4))
        write_nifti(tmp_path / "true" / f"{name}.nii.gz", reference, np.eye(4))
    given = [tmp_path / "found", tmp_path / "true", "--classes", "tumor=1", "--out"]
    plain = program("evaluate", *given, tmp_path / "plain.csv").stdout
    shown = program("evaluate", *given, tmp_path / "more.csv", path=site).stdout
    before, after = rows_of(tmp_path / "plain.csv"), rows_of(tmp_path / "more.csv")
    assert list(after[0]) == [*before[0], "hd95_twice_mm"]
    assert [{k: v for k, v in row.items() if k != "hd95_twice_mm"} for row in after] == before
    assert [float(row["hd95_twice_mm"]) for row in after] == [700.0, 2 * float(after[1]["hd95_mm"])]
    summary = rows_of(tmp_path / "more-summary.csv")
    [overall] = [r for r in summary if (r["metric"], r["by"]) == ("hd95_twice_mm", "all")]
    assert float(overall["worst"]) == 700.0
    assert shown.count("HD95 twice mm") == plain.count("HD95 mm") == 2  # means and percentiles
    assert "HD95 twice 700 mm" in shown


def test_only_scores_are_made_again_and_the_old_ones_stay(
    after_smoke: Program, smoke: Result, variants: Result
) -> None:
    run = Result(variants.folder / "whole", "")
    assert {*run.made()} == {step for step in smoke.made() if step.startswith("score-")}
    whole = run.scores()
    assert list(whole[0]) == [*smoke.scores()[0], "hd95_twice_mm"]
    twice = [number(row["hd95_twice_mm"]) for row in whole]
    assert twice == pytest.approx([2 * number(row["hd95_mm"]) for row in whole], nan_ok=True)
    again = after_smoke.run("again")
    assert again.made() == []
    assert again.scores() == smoke.scores()


def test_report_comparison_and_terminal_show_it(variants: Result) -> None:
    assert "HD95 twice mm" in variants.stdout
    for page in ("report.html", "whole/report.html"):
        assert '<th scope="col">HD95 twice (mm)</th>' in (variants.folder / page).read_text(
            encoding="utf-8"
        )
    page = (variants.folder / "whole" / "report.html").read_text(encoding="utf-8")
    assert "the 95th percentile of the surface distances, times two" in page
    assert "left for ASSD and HD95 twice" in page
    rows = rows_of(variants.folder / "comparison.csv")
    columns = list(rows[0])
    assert columns[columns.index("assd_seeds_sd_mm") + 1 :][:2] == [
        "hd95_twice_mean_mm",
        "hd95_twice_seeds_sd_mm",
    ]
    assert "HD95 twice (mm)" in (variants.folder / "comparison.tex").read_text(encoding="utf-8")


def test_the_model_card_says_it_also_where_it_is_not_installed(
    program: Program, variants: Result, site: Path, tmp_path: Path
) -> None:
    run = variants.folder / "short"
    program("package", run, tmp_path / "model", path=site)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| Dice | ASSD mm | HD95 twice mm |" in card
    program("package", run, tmp_path / "other")
    program("predict", tmp_path / "model", "--help")


def test_rank_takes_it(program: Program, site: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    lines = ["1,a,0.9,7", "1,b,0.8,9", "2,a,0.9,5", "2,b,0.8,6"]
    scores.write_text("\n".join(["Case,Team,my_VS_Dice,my_VS_HD95_twice", *lines]))
    shown = program("rank", scores, path=site).stdout
    assert "my_VS_HD95_twice: difference from a" in shown
    refused = program("rank", scores, code=3).stderr
    assert "unknown columns: ['my_VS_HD95_twice']" in refused


WRONG = {
    "1 / 0": "cannot be imported: ZeroDivisionError",
    METRIC.replace('"hd95_twice"', '"other"'): "a Metric called 'hd95_twice'",
    METRIC.replace("Metric(", "dict("): "a Metric called 'hd95_twice'",
    METRIC.replace("missing=700.0,", ""): "a finite value for a missing structure",
    METRIC.replace("2 * ", "1 / 0 * "): "cannot be computed: ZeroDivisionError",
    METRIC.replace("2 * ", "2e999 + "): "gives inf",
}


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_metric_is_named(
    code: str, program: Program, install: Callable[..., None], tmp_path: Path
) -> None:
    install(tmp_path, "hd95_twice", code, ENTRIES)
    labels = np.ones((3, 3, 3), np.uint8)
    write_nifti(tmp_path / "maps" / "a.nii", labels, np.eye(4))
    maps = tmp_path / "maps"
    shown = program("evaluate", maps, maps, "--out", tmp_path / "s.csv", code=4, path=tmp_path)
    assert "metric 'hd95_twice' (hd95_twice 1.2)" in shown.stderr
    assert WRONG[code] in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


def test_a_metric_with_a_taken_column_is_refused(
    program: Program, install: Callable[..., None], tmp_path: Path
) -> None:
    entries = "[crossmod.metrics]\nhd95 = taken:HD95_TWICE\n"
    install(tmp_path, "taken", METRIC.replace('"hd95_twice"', '"hd95"'), entries)
    scores = tmp_path / "scores.csv"
    scores.write_text("Case,Team,VS_Dice\n1,a,0.9\n1,b,0.8\n")
    assert "the column 'hd95_mm' is taken" in program("rank", scores, code=4, path=tmp_path).stderr
