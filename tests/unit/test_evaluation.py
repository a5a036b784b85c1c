from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scored import Measured, scored
from sheets import rows_of

from crossmod.data.classes import Classes
from crossmod.data.nifti import write_nifti
from crossmod.data.volumes import Affine
from crossmod.errors import DataError
from crossmod.scores.evaluation import (
    RUNGS,
    Group,
    LabelPair,
    compare_all,
    evaluate,
    label_pairs,
    summarize,
    write_summary,
)
from crossmod.scores.metrics import Score, write_scores

NAN = math.nan
OFFICIAL = Path(__file__).parents[3] / "shared" / "crossmoda2022" / "score_test.csv"
TUMOR = Classes({"tumor": (1,)})
CLASSES = Classes({"tumor": (1,), "cochlea": (2,)})
CENTERS = {"ldn": "crossmoda2021_ldn_*", "etz": "crossmoda2022_etz_*"}
AFFINE = np.diag([0.5, 0.5, 2.0, 1.0])


def maps(folder: Path, *names: str, data: NDArray[np.generic] | None = None) -> Path:
    """A folder of label maps with one tumor voxel, or with given data."""
    content = np.zeros((4, 4, 4), np.uint8)
    content[1, 1, 1] = 1
    for name in names:
        write_nifti(folder / name, content if data is None else data, AFFINE)
    return folder


def pair(
    folder: Path,
    prediction: NDArray[np.generic],
    reference: NDArray[np.generic],
    moved: Affine = AFFINE,
) -> LabelPair:
    write_nifti(folder / "prediction.nii", prediction, moved)
    write_nifti(folder / "reference.nii", reference, AFFINE)
    return LabelPair("a", "ldn", folder / "prediction.nii", folder / "reference.nii")


def outcome(
    case: str,
    dice: float,
    assd: float = 1.0,
    *,
    volume_mm3: float = 500.0,
    error: float = -0.2,
    center: str = "ldn",
    structure: str = "tumor",
) -> Score:
    numbers = dice, assd, 2 * assd, dice / 2, error, volume_mm3
    return scored("", "", case, center, structure, *numbers)


def group(groups: list[Group], structure: str, name: str) -> Group:
    return next(g for g in groups if (g.structure, g.name) == (structure, name))


def test_two_folders_are_evaluated_from_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, references = (maps(tmp_path / one, "a.nii", "b.nii") for one in ("p", "r"))
    watched: list[str] = []

    def progress(items, *, total=None, label=""):
        assert total == 2
        for item in items:
            watched.append(item.case)
            yield item

    scores, summary = tmp_path / "scores.csv", tmp_path / "summary.csv"
    done = evaluate(predictions, references, CLASSES, {}, scores=scores, summary=summary,
                    progress=progress)  # fmt: skip
    assert (done.cases, watched, list(done.remarks)) == (2, ["a", "b"], [])
    assert group(list(done.groups), "tumor", "overall").spreads["dice"].mean == 1.0
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(CLASSES.values)
    assert summary.is_file()
    with pytest.raises(DataError, match="the command reads it"):
        evaluate(predictions, references, CLASSES, {}, scores=predictions / "a.nii")
    assert capsys.readouterr() == ("", "")


def test_files_are_matched_by_case(tmp_path: Path) -> None:
    predictions = maps(
        tmp_path / "p", "crossmoda2022_etz_1.nii.gz", "crossmoda2021_ldn_9.nii", "x_Label_1.nii.gz"
    )
    references = maps(
        tmp_path / "r",
        "crossmoda2022_etz_1_Label.nii.gz",
        "crossmoda2021_ldn_9_Label.nii.gz",
        "crossmoda2021_ldn_9_hrT2.nii.gz",
        "x_Label_1_Label.nii",
    )
    (predictions / "notes.txt").touch()
    (predictions / "._crossmoda2022_etz_1.nii.gz").touch()
    found = label_pairs(predictions, references, CENTERS)
    assert [(p.case, p.center, p.prediction.name, p.reference.name) for p in found] == [
        (
            "crossmoda2021_ldn_9",
            "ldn",
            "crossmoda2021_ldn_9.nii",
            "crossmoda2021_ldn_9_Label.nii.gz",
        ),
        (
            "crossmoda2022_etz_1",
            "etz",
            "crossmoda2022_etz_1.nii.gz",
            "crossmoda2022_etz_1_Label.nii.gz",
        ),
        ("x_Label_1", "", "x_Label_1.nii.gz", "x_Label_1_Label.nii"),
    ]


def test_m04_every_case_without_a_partner_is_named(tmp_path: Path) -> None:
    predictions = maps(tmp_path / "p", "a.nii.gz", "e.nii.gz")
    references = maps(tmp_path / "r", *(f"{case}_Label.nii.gz" for case in "abcd"))
    with pytest.raises(DataError) as error:
        label_pairs(predictions, references, {})
    assert f"no prediction in {predictions} of: b, c, d" in str(error.value)
    assert f"no reference in {references} of: e" in str(error.value)


def test_folders_that_say_nothing_are_refused(tmp_path: Path) -> None:
    good = maps(tmp_path / "good", "a.nii.gz")
    twice = maps(tmp_path / "twice", "a.nii.gz", "a.nii")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: contains no file that ends with"):
        label_pairs(good, empty, {})
    with pytest.raises(DataError, match=r"two label maps: a\.nii and a\.nii\.gz"):
        label_pairs(twice, good, {})


def test_outcomes_of_one_case(tmp_path: Path) -> None:
    prediction, reference = np.zeros((2, 6, 6, 6), np.uint8)
    reference[1:3, 2, 2] = 1
    prediction[1:4, 2, 2] = 1
    prediction[5, 5, 5] = 2
    tumor, cochlea = pair(tmp_path, prediction, reference).compare(CLASSES).scores
    assert (tumor.case, tumor.center, tumor.structure) == ("a", "ldn", "tumor")
    assert Measured(**tumor.measures) == pytest.approx((0.8, 0.1, 0.4, 1.0, 0.5, 1.0))
    expected = (0.0, 350.0, 350.0, 0.0, NAN, 0.0)
    assert Measured(**cochlea.measures) == pytest.approx(expected, nan_ok=True)


def test_options_reach_the_metrics(tmp_path: Path) -> None:
    prediction, reference = np.zeros((2, 6, 6, 6), np.uint8)
    reference[1, 2, 2] = prediction[1, 2, 2] = prediction[1, 2, 5] = prediction[1, 4, 2] = 1
    maps = pair(tmp_path, prediction, reference)
    values = [
        maps.compare(TUMOR, tolerance_mm=mm, challenge=challenge).scores[0].measures
        for mm, challenge in ((0.9, False), (1.0, False), (6.0, True))
    ]
    assert [value["nsd"] for value in values] == [0.5, 0.75, 1.0]
    assert [value["assd_mm"] for value in values] == pytest.approx([7 / 4, 7 / 4, 7 / 6])


def test_whole_numbers_of_any_type_are_labels(tmp_path: Path) -> None:
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[1, 1, 1] = 1
    for kind in (np.int16, np.float32, np.float64):
        (tumor,) = pair(tmp_path, reference.astype(kind), reference).compare(TUMOR).scores
        assert tumor.measures["dice"] == 1
    wrapped = reference.astype(np.int16) * 257  # 1 in eight bits
    with pytest.raises(DataError, match="labels: values from 0 to 257"):
        pair(tmp_path, wrapped, reference).compare(TUMOR)


@pytest.mark.parametrize("value", [0.7, NAN, math.inf])
def test_images_are_no_label_maps(tmp_path: Path, value: float) -> None:
    prediction, reference = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)
    prediction[1, 1, 1] = value
    with pytest.raises(DataError, match=r"prediction\.nii: labels: "):
        pair(tmp_path, prediction, reference).compare(CLASSES)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    whole = pair(tmp_path, labels, labels)
    content = whole.prediction.read_bytes()
    packed = gzip.compress(content)
    damaged = {
        "text.nii": b"labels",
        "cut.nii": content[: len(content) // 2],
        "cut.nii.gz": packed[: len(packed) // 2],
        "flipped.nii.gz": packed[:900] + bytes(90) + packed[990:],
    }
    for name, data in damaged.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=name):
            LabelPair("a", "", path, whole.reference).compare(CLASSES)
    write_nifti(tmp_path / "flat.nii", labels[0], AFFINE)
    with pytest.raises(DataError, match="one 3D image"):
        LabelPair("a", "", whole.prediction, tmp_path / "flat.nii").compare(CLASSES)


def test_every_case_that_cannot_be_scored_is_named(tmp_path: Path) -> None:
    predictions = maps(tmp_path / "p", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    references = maps(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    for file in (predictions / "a.nii.gz", references / "a.nii.gz", predictions / "c.nii.gz"):
        file.write_text("no labels", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        compare_all(label_pairs(predictions, references, {}), CLASSES)
    message = str(caught.value)
    assert message.startswith("2 of 3 cases cannot be scored:")
    for name in ("p/a.nii.gz", "r/a.nii.gz", "p/c.nii.gz"):
        assert message.count(name) == 1
    assert "recipe" not in message


def test_what_is_odd_about_label_maps_is_said(tmp_path: Path) -> None:
    names = ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    predictions = maps(tmp_path / "p", *names, data=np.full((4, 4, 4), 7, np.uint8))
    references = maps(tmp_path / "r", *names[1:])
    maps(references, names[0], data=np.full((4, 4, 4), 1.0001, np.float32))
    outcomes, remarks = compare_all(label_pairs(predictions, references, {}), TUMOR)
    assert [item.measures["dice"] for item in outcomes] == [0, 0, 0]
    assert remarks == [
        f"{references / 'a.nii.gz'}: labels: rounded to whole numbers",
        f"{predictions}: labels: values 7 are of no class and count as background:"
        " a.nii.gz and 2 more",
    ]


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        label_pairs(tmp_path, tmp_path, {})


def test_names_that_no_table_can_hold_are_refused(tmp_path: Path) -> None:
    folder = maps(tmp_path / "p", "a.nii.gz")
    (folder / "a.nii.gz").rename(folder / "a\udcff.nii.gz")
    with pytest.raises(DataError, match="not UTF-8"):
        label_pairs(folder, folder, {})


def test_other_grids_are_refused(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(DataError, match="4 x 4 x 3 voxels, not 4 x 4 x 4 voxels"):
        pair(tmp_path, labels[:, :, :3], labels).compare(CLASSES)
    for gap, accepted in ((4e-4, True), (2e-3, False)):
        moved = AFFINE.copy()
        moved[1, 3] += gap
        maps = pair(tmp_path, labels, labels, moved)
        if accepted:
            assert maps.compare(CLASSES).scores
        else:
            with pytest.raises(DataError, match=r"prediction\.nii: .* up to 0\.002 mm off"):
                maps.compare(CLASSES)


def test_the_challenge_error_names_the_case(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    swapped = np.eye(4)[[1, 0, 2, 3]]
    for name in ("p.nii", "r.nii"):
        write_nifti(tmp_path / name, labels, swapped)
    maps = LabelPair("case-7", "", tmp_path / "p.nii", tmp_path / "r.nii")
    with pytest.raises(DataError, match="case-7: the diagonal"):
        maps.compare(CLASSES, challenge=True)


def test_m01_m02_groups_of_a_summary() -> None:
    outcomes = [
        outcome("a", 0.9, volume_mm3=287.9),
        outcome("b", 0.7, volume_mm3=288.0, center=""),
        outcome("c", 0.0, 350.0, volume_mm3=2340.0, error=-1.0, center="etz"),
        outcome("d", 0.5, volume_mm3=2340.1, center="etz"),
        outcome("e", 0.0, 350.0, volume_mm3=0.0, error=NAN),
        outcome("f", NAN, NAN, volume_mm3=0.0, error=NAN),
        outcome("a", 0.3, structure="cochlea"),
    ]
    groups = summarize(outcomes, "tumor")
    assert [(g.structure, g.by, g.name, g.spreads["dice"].cases) for g in groups] == [
        ("tumor", "all", "overall", 5),
        ("tumor", "center", "etz", 2),
        ("tumor", "center", "ldn", 2),
        ("tumor", "center", "other", 1),
        ("tumor", "size", "small", 1),
        ("tumor", "size", "medium", 2),
        ("tumor", "size", "large", 1),
        ("cochlea", "all", "overall", 1),
        ("cochlea", "center", "ldn", 1),
    ]
    overall, medium = group(groups, "tumor", "overall"), group(groups, "tumor", "medium")
    assert (overall.not_applicable, overall.empty_predictions) == (1, 1)
    assert overall.spreads["dice"].mean == pytest.approx(2.1 / 5)
    assert medium.spreads["dice"].sd == pytest.approx(0.7 / math.sqrt(2))
    assert medium.spreads["assd_mm"].mean == pytest.approx(351 / 2)
    assert math.isnan(group(groups, "cochlea", "overall").spreads["dice"].sd)


def test_percentiles_run_from_worst_to_best() -> None:
    outcomes = [outcome(str(i), i / 100, 100 - i) for i in range(101)]
    spreads = group(summarize(outcomes, "tumor"), "tumor", "overall").spreads
    assert RUNGS == ("worst", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "best")
    expected = np.array([0, 1, 5, 25, 50, 75, 95, 99, 100])
    assert spreads["dice"].rungs == pytest.approx(tuple(expected / 100))
    assert spreads["assd_mm"].rungs == pytest.approx(tuple(100 - expected))
    assert spreads["hd95_mm"].rungs == pytest.approx(tuple(200 - 2 * expected))
    assert spreads["nsd"].rungs == pytest.approx(tuple(expected / 200))
    assert all(math.isnan(value) for value in spreads["volume_error"].rungs)


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the organizers' scores are not on this machine")
def test_percentiles_of_the_paper() -> None:
    """Table 3 of the paper: its method on the tumors of the 271 test cases."""
    rows = [row for row in rows_of(OFFICIAL) if row["Team"] == "LaTIM"]
    outcomes = [outcome(r["Case"], float(r["VS_Dice"]), float(r["VS_ASSD"])) for r in rows]
    spreads = group(summarize(outcomes, "tumor"), "tumor", "overall").spreads
    dice, assd = spreads["dice"], spreads["assd_mm"]
    assert (dice.cases, round(dice.mean, 4), round(assd.mean, 4)) == (271, 0.8593, 0.4591)
    expected = [0.5023, 0.6373, 0.7474, 0.8309, 0.8678, 0.9051, 0.9374, 0.9473, 0.9621]
    assert dice.rungs == pytest.approx(expected, abs=1e-4)
    expected = [1.9449, 1.5735, 0.9340, 0.5297, 0.4167, 0.2928, 0.2094, 0.1785, 0.1653]
    assert assd.rungs == pytest.approx(expected, abs=1e-4)


def test_files_hold_every_digit(tmp_path: Path) -> None:
    outcomes = [outcome("a", 1 / 3, 0.1), outcome("b", NAN, NAN, center="", error=-1.0)]
    write_scores(tmp_path / "scores.csv", outcomes, keys=("case", "center", "class"))
    lines = (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()
    header = "case,center,class,dice,assd_mm,hd95_mm,nsd,volume_error,volume_mm3"
    assert lines == [
        header,
        f"a,ldn,tumor,{1 / 3!r},0.1,0.2,{1 / 6!r},-0.2,500.0",
        "b,,tumor,,,,,-1.0,500.0",
    ]
    groups = summarize(outcomes, "tumor")
    write_summary(tmp_path / "summary.csv", groups)
    rows = rows_of(tmp_path / "summary.csv")
    assert len(rows) == 5 * len(groups)
    first = rows[0]
    assert [first[key] for key in ("class", "by", "group", "metric", "cases")] == [
        *("tumor", "all", "overall", "dice", "1")
    ]
    assert float(first["mean"]) == 1 / 3
    assert first["sd"] == ""
    assert (first["not_applicable"], first["empty_predictions"]) == ("1", "1")
