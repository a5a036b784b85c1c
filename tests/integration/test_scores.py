"""`crossmod evaluate` and `crossmod rank` as a user runs them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from program import Program

from crossmod.data.volumes import read_affine, read_labels, spacing_of, write_nifti

CASES = ["crossmoda2021_ldn_2", "crossmoda2021_ldn_3", "crossmoda2022_etz_1", "crossmoda2022_etz_2"]


@pytest.fixture(scope="module")
def folders(program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Predictions and references: perfect, shifted, empty and perfect again."""
    root = tmp_path_factory.mktemp("evaluate")
    counts = ["--source", "2", "--target", "2", "--validation", "2"]
    program("data", "phantom", root / "cohort", *counts)
    references = root / "cohort" / "hidden"
    for i, case in enumerate(CASES):
        file = references / f"{case}_Label.nii.gz"
        labels = read_labels(file)
        labels = np.roll(labels, int(i == 1), axis=0) * np.uint8(i != 2)
        write_nifti(root / "predictions" / f"{case}.nii.gz", labels, read_affine(file))
    return root / "predictions", references


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_evaluate_scores_a_folder(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    done = program("evaluate", *folders, "--out", tmp_path / "new" / "s.csv")
    for word in ("tumor", "cochlea", "overall", "etz", "ldn", "small", "p95", "s-summary.csv"):
        assert word in done.stdout
    rows = rows_of(tmp_path / "new" / "s.csv")
    assert [(r["case"], r["center"], r["class"]) for r in rows] == [
        (case, case[14:17], name) for case in CASES for name in ("tumor", "cochlea")
    ]
    dice = [float(r["dice"]) for r in rows if r["class"] == "tumor"]
    assert (dice[0], dice[2], dice[3]) == (1, 0, 1)
    assert 0.5 < dice[1] < 1
    voxel_mm3 = np.prod(spacing_of(read_affine(folders[1] / f"{CASES[0]}_Label.nii.gz")))
    count = np.count_nonzero(read_labels(folders[1] / f"{CASES[0]}_Label.nii.gz") == 1)
    assert float(rows[0]["volume_mm3"]) == pytest.approx(count * voxel_mm3)
    summary = rows_of(tmp_path / "new" / "s-summary.csv")
    overall = next(r for r in summary if r["group"] == "overall" and r["metric"] == "dice")
    assert float(overall["mean"]) == pytest.approx(np.mean(dice))
    assert overall["empty_predictions"] == "1"


def test_evaluate_takes_options(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    program("evaluate", *folders, "--out", plain, "--summary", tmp_path / "rest.csv")
    options = ["--challenge", "--tolerance", "0", "--classes", "VS=1", "--centers", "here=*_etz_*"]
    program("evaluate", *folders, "--out", other, *options)
    assert (tmp_path / "rest.csv").exists()
    before = [row for row in rows_of(plain) if row["class"] == "tumor"]
    after = rows_of(other)
    assert [row["class"] for row in after] == ["VS"] * 4
    assert [row["center"] for row in after] == ["", "", "here", "here"]
    assert after[1]["dice"] == before[1]["dice"]
    assert float(after[1]["nsd"]) < float(before[1]["nsd"])
    assert after[1]["assd_mm"] != before[1]["assd_mm"]


@pytest.mark.parametrize(
    "option",
    [
        ["--classes", "a=1,b=1"],
        ["--classes", "a=x"],
        ["--classes", "a=300"],
        ["--classes", f"a={'1' * 5000}"],
        ["--classes", "\udcff=1"],
        ["--classes", ""],
        ["--centers", "x"],
        ["--centers", "a=\udcff*"],
        ["--out", ""],
        ["--out", "."],
        ["--out", "n" * 300],
        ["--summary", ""],
        ["--summary", "./scores.csv"],
        ["--summary", f"{__file__}/x.csv"],
    ],
)
def test_evaluate_refuses_options_that_mean_nothing(
    program: Program, folders: tuple[Path, Path], option: list[str]
) -> None:
    assert option[0] in program("evaluate", *folders, *option, code=2).stderr
    assert not (program.folder / "scores.csv").exists()


def test_evaluate_says_what_is_odd(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    done = program("evaluate", *folders, "--out", tmp_path / "s.csv", "--classes", "tumor=1")
    for folder in folders:
        assert f"note: {folder}: labels: values 2 are of no class" in done.stdout


def test_m04_evaluate_names_what_is_missing(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    shutil.copytree(folders[0], part)
    (part / f"{CASES[0]}.nii.gz").unlink()
    (part / f"{CASES[3]}.nii.gz").unlink()
    failed = program("evaluate", part, folders[1], "--out", tmp_path / "s.csv", code=3)
    assert f"{CASES[0]}, {CASES[3]}" in failed.stderr
    assert not (tmp_path / "s.csv").exists()


def test_rank(program: Program, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    values = ["0.9,1,0.5", "0.8,2,0.6", "0.1,9,0.1"]
    teams = [["a", "b", "c[1]"]] * 4 + [["b", "a", "c[1]"]] * 2
    lines = [
        f"case-{i},{team},{row}"
        for i, order in enumerate(teams)
        for team, row in zip(order, values, strict=True)
    ]
    scores.write_text("\n".join(["Case,Team,VS_Dice,VS_ASSD,Cochlea_Dice", *lines]))
    done = program("rank", scores, "--samples", "50")
    for word in ("3 teams, 6 cases, 50 samples", "c[1]", "1.44", "1.56", "3.00", "Cochlea_Dice"):
        assert word in done.stdout
    assert program("rank", scores, "--samples", "50").stdout == done.stdout
    assert program("rank", scores, "--samples", "50", "--seed", "5").stdout != done.stdout
    only = program("rank", scores, "--metric", "VS_ASSD").stdout
    assert "VS_ASSD: difference from a" in only
    assert "VS_Dice: difference" not in only
    assert "VS_Dice" in program("rank", scores, "--metric", "VS_Dise", code=3).stderr
    scores.write_text("\n".join(["Case,Team,VS_Dice,VS_ASSD,Cochlea_Dice", *lines[:-1]]))
    assert "case-5 of c[1]" in program("rank", scores, code=3).stderr
