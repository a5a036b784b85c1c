"""`crossmod evaluate` and `crossmod rank` as a user runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from program import Program
from sheets import rows_of

from crossmod.data.nifti import read_affine, read_labels, write_nifti
from crossmod.data.volumes import spacing_of

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
        ["--classes", "a=1+1"],
        ["--classes", "a=1+2,b=2"],
        ["--classes", "a=1+"],
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


def test_evaluate_joins_values_into_a_class(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    both, recipe = tmp_path / "both.csv", tmp_path / "own.toml"
    program("evaluate", *folders, "--out", both, "--classes", "all=1+2")
    rows = rows_of(both)
    assert [row["class"] for row in rows] == ["all"] * 4
    references = read_labels(folders[1] / f"{CASES[0]}_Label.nii.gz")
    affine = read_affine(folders[1] / f"{CASES[0]}_Label.nii.gz")
    whole = np.count_nonzero(references) * np.prod(spacing_of(affine))
    assert float(rows[0]["volume_mm3"]) == pytest.approx(whole)
    recipe.write_text(
        'extends = "smoke"\n[data.classes]\ntumor = [1, 2]\ncochlea = false\n', encoding="utf-8"
    )
    done = program("evaluate", *folders, "--out", tmp_path / "r.csv", "--recipe", recipe)
    assert "of no class" not in done.stdout
    assert [row["dice"] for row in rows_of(tmp_path / "r.csv")] == [row["dice"] for row in rows]


def test_evaluate_writes_tables_for_papers_and_what_rank_reads(
    program: Program, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad" / "scores.csv"
    program("evaluate", folders[1], folders[1], "--out", good)
    program("evaluate", *folders, "--out", bad)
    assert r"\toprule" in (tmp_path / "good-summary.tex").read_text(encoding="utf-8")
    assert "| overall | 4 |" in (tmp_path / "good-summary.md").read_text(encoding="utf-8")
    done = program("rank", good, bad, "--out", tmp_path / "ranks")
    assert "2 teams, 4 cases" in done.stdout
    ranking = [
        row for row in rows_of(tmp_path / "ranks" / "ranking.csv") if row["ranking"] == "all"
    ]
    assert [(row["place"], row["team"]) for row in ranking] == [("1", "good"), ("2", "bad")]
    tests = rows_of(tmp_path / "ranks" / "tests.csv")
    assert {row["metric"] for row in tests} == {
        f"{structure}_{metric}" for structure in ("tumor", "cochlea") for metric in ("dice", "assd")
    }
    text = (tmp_path / "ranks" / "ranking.tex").read_text(encoding="utf-8")
    assert r"1 & \textbf{good} & \textbf{1.00} &" in text
    named = program("rank", f"A={good}", f"B={bad}").stdout
    assert "difference from A" in named
    assert "two are called" in program("rank", good, good, code=2).stderr
    assert "does not exist" in program("rank", f"A={tmp_path / 'none.csv'}", bad, code=2).stderr


def test_rank_names_impossible_values(program: Program, tmp_path: Path) -> None:
    scores = tmp_path / "teams.csv"
    scores.write_text("Case,Team,VS_Dice\n1,a,0.7\n1,b,90\n2,a,-0.8\n2,b,0.5\n", encoding="utf-8")
    said = program("rank", scores, code=3).stderr
    assert "teams.csv:3: VS_Dice of team b, case 1 is 90: outside 0 to 1; a percentage?" in said
    assert "teams.csv:4: VS_Dice of team a, case 2 is -0.8: outside 0 to 1" in said


@pytest.mark.parametrize("summary", ["means.md", "means.tex"])
def test_the_summary_of_evaluate_is_csv(
    program: Program, folders: tuple[Path, Path], tmp_path: Path, summary: str
) -> None:
    options = ["--out", tmp_path / "s.csv", "--summary", tmp_path / summary]
    assert "is not CSV" in program("evaluate", *folders, *options, code=2).stderr
