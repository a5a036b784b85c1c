"""Recipes find their scans in the layouts data sets come in."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nifti_files import HELD_OUT, SOURCE, TARGET, small_cohort, survey_of
from processor import SOON_S
from typer.testing import CliRunner

from crossmod import DataError
from crossmod.cli import app
from crossmod.data.cases import patient_of
from crossmod.data.crossmoda import Info, read_infos
from crossmod.data.folder import Scan, find_scans
from crossmod.files.patterns import refuse_links
from crossmod.recipe.load import load
from crossmod.run.data import check_data
from crossmod.run.planner import Planner

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
GUIDE = ROOT / "docs" / "how-to" / "your-data.md"
EVERYONE = {"all": "*"}


def write(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    return root


LAYOUTS = {
    "crossmoda2021": (
        [
            "crossmoda_training/source_training/crossmoda_1_ceT1.nii.gz",
            "crossmoda_training/source_training/crossmoda_1_Label.nii.gz",
            "crossmoda_training/target_training/crossmoda_106_hrT2.nii.gz",
            "crossmoda_validation/target_validation/crossmoda_211_hrT2.nii.gz",
        ],
        {"source": ["ldn"], "target": ["ldn"], "validation": ["ldn"]},
    ),
    "crossmoda2022": (
        [
            "crossmoda2022_training/training_source/crossmoda2021_ldn_1_ceT1.nii.gz",
            "crossmoda2022_training/training_source/crossmoda2021_ldn_1_Label.nii.gz",
            "crossmoda2022_training/training_source/crossmoda2022_etz_0_ceT1.nii.gz",
            "crossmoda2022_training/training_source/crossmoda2022_etz_0_Label.nii.gz",
            "crossmoda2022_training/training_target/crossmoda2022_etz_105_hrT2.nii.gz",
            "crossmoda2022_validation/validation/crossmoda2021_ldn_211_hrT2.nii.gz",
        ],
        {"source": ["ldn", "etz"], "target": ["etz"], "validation": ["ldn"]},
    ),
    "crossmoda2023": (
        [
            "crossmoda23_training/TrainingSource/crossmoda2023_etz_1_ceT1.nii.gz",
            "crossmoda23_training/TrainingSource/crossmoda2023_etz_1_Label.nii.gz",
            "crossmoda23_training/TrainingSource/crossmoda2023_ldn_1_ceT1.nii.gz",
            "crossmoda23_training/TrainingSource/crossmoda2023_ldn_1_Label.nii.gz",
            "crossmoda23_training/TrainingTarget/crossmoda2023_ukm_44_T2.nii.gz",
            "crossmoda23_validation/crossmoda2023_ldn_160_T2.nii.gz",
        ],
        {"source": ["etz", "ldn"], "target": ["ukm"], "validation": ["ldn"]},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_shipped_recipe_finds_the_scans_of_its_release(name: str, tmp_path: Path) -> None:
    files, centers = LAYOUTS[name]
    recipe = load(RECIPES / f"{name}.toml").recipe
    found = check_data(recipe, write(tmp_path, files))
    assert {
        split: [scan.center for scan in scans] for split, scans in found.splits.items()
    } == centers
    assert {scan.case for scans in found.splits.values() for scan in scans} == {
        Path(file).name.rsplit("_", 1)[0] for file in files
    }


def test_tumor_parts_of_2023_are_one_class() -> None:
    data = load(RECIPES / "crossmoda2023.toml").recipe.data
    shown = data.class_table.to_labels(np.array([0, 1, 2, 3], np.uint8))
    assert shown.tolist() == [0, 1, 1, 2]


def test_the_recipe_of_another_release_says_what_it_found_instead(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["crossmoda2021"][0])
    with pytest.raises(DataError) as caught:
        check_data(load(RECIPES / "crossmoda2022.toml").recipe, root)
    message = str(caught.value)
    assert message.count("no scan matches") == 3  # every split at once
    assert f"{root} holds crossmoda_training/, crossmoda_validation/" in message
    assert str(root / "crossmoda2022_training/training_source/{case}_ceT1.nii.gz") in message


def test_bids_names_as_in_the_guide(tmp_path: Path) -> None:
    """BIDS holds the case twice; label maps lie among the derivatives of the data set."""
    text = GUIDE.read_text(encoding="utf-8")
    [block] = re.findall(r"```toml\n([^`]*sub-\{case\}[^`]*)```", text)
    recipe = tmp_path / "bids.toml"
    recipe.write_text(f'extends = "{RECIPES / "quickstart.toml"}"\n{block}', encoding="utf-8")
    checked = load(recipe).recipe
    data = checked.data
    assert data.validation is not None
    patterns = {
        "source": (data.source.images, data.source.labels),
        "target": (data.target.images,),
        "validation": (data.validation.images, checked.evaluate.labels),
    }
    root = tmp_path / "bids"
    cases = ("london01", "tilburg02")
    for kinds in patterns.values():
        write(root, [str(pattern).format(case=case) for pattern in kinds for case in cases])
    found = check_data(checked, root)
    for split, (images, *labels) in patterns.items():
        maps = root / labels[0] if split == "source" else None
        assert found.splits[split] == [
            Scan(case, center, *(Path(str(path).format(case=case)) if path else None
                                 for path in (root / images, maps)))
            for case, center in zip(cases, ("ldn", "etz"), strict=True)
        ]  # fmt: skip


def test_a_file_in_the_folder_of_another_case_is_no_scan(tmp_path: Path) -> None:
    pattern = "sub-{case}/sub-{case}_T2w.nii.gz"
    root = write(tmp_path, ["sub-01/sub-02_T2w.nii.gz", "sub-01/sub-01_x_T2w.nii.gz"])
    with pytest.raises(DataError, match="no scan matches"):
        find_scans(root, pattern, None, EVERYONE)


def test_label_maps_beside_images_are_no_scans(tmp_path: Path) -> None:
    root = write(tmp_path, ["a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz"])
    scans = find_scans(root, "{case}.nii.gz", "{case}_seg.nii.gz", EVERYONE)
    assert [scan.case for scan in scans] == ["a", "b"]


def test_every_scan_without_label_map_or_center_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, ["i/a1.nii", "i/b1.nii", "i/c1.nii", "l/a1.nii"])
    with pytest.raises(DataError) as caught:
        find_scans(root, "i/{case}.nii", "l/{case}.nii", {"a": "a*", "b": "b*"})
    for text in ("b1: no label map at", "c1: no label map at", "c1: belongs to none"):
        assert text in str(caught.value)


@pytest.mark.parametrize("pattern", ["images/a.nii.gz", "/images/{case}.nii.gz"])
def test_what_is_no_pattern_is_said(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a pattern of files"):
        find_scans(tmp_path, pattern, None, EVERYONE)


def infos(
    root: Path, rows: Sequence[str], header: str = "crossmoda_name,group,center,koos"
) -> Path:
    path = root / "crossmoda2022_training" / "infos_source_training.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_the_table_of_source_scans_is_read_and_summed_up(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["crossmoda2022"][0])
    path = infos(root, ["crossmoda2021_ldn_1,training_source,London,post-operative-london",
                        "crossmoda2022_etz_0,training_source,Tilburg,3",
                        "crossmoda2022_etz_9,training_source,Tilburg,1"])  # fmt: skip
    assert read_infos(path)["crossmoda2022_etz_0"] == Info("Tilburg", "3")
    recipe = str(RECIPES / "crossmoda2022.toml")
    shown = CliRunner().invoke(app, ["check", recipe, "--data", str(root)])
    lines = shown.output.strip().splitlines()
    assert [line for line in lines if not line.startswith(("note: ", "warning: "))][:3] == [
        "source     1 ldn, 1 etz; Koos 3: 1, post-operative: 1",
        "target     1 etz",
        "validation 1 ldn",
    ]


def test_a_table_that_contradicts_names_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["crossmoda2022"][0])
    infos(root, ["crossmoda2021_ldn_1,training_source,Tilburg,2",
                 "crossmoda2022_etz_0,training_source,London,3"])  # fmt: skip
    recipe = load(RECIPES / "crossmoda2022.toml").recipe
    with pytest.raises(DataError) as caught:
        check_data(recipe, root)
    assert "crossmoda2021_ldn_1: Tilburg in the table, ldn by its name" in str(caught.value)
    assert "crossmoda2022_etz_0: London in the table, etz by its name" in str(caught.value)
    data = recipe.data.model_copy(update={"centers": EVERYONE})
    elsewhere = recipe.model_copy(update={"data": data})
    assert check_data(elsewhere, root).lines()[0].startswith("source     2 all; Koos 2: 1, 3: 1")
    infos(root, [], header="crossmoda_name,center")
    with pytest.raises(DataError, match="has no column koos"):
        check_data(recipe, root)


TABLES = {
    "Latin-1": (b"crossmoda_name,center,koos\nM\xfcller,London,1\n", "2: is not UTF-8: byte 0xfc"),
    "UTF-16 without a mark": (b"c\0a\0,\0", "1: holds zero bytes"),
    "short": (b"crossmoda_name,center,koos\na,London,1\nb\n", "3: is too short a row"),
    "long": (b"crossmoda_name,center,koos\n" + b"a" * 200_000 + b",London,1\n", "2: is not CSV: "),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    content, words = TABLES[name]
    path = tmp_path / "infos_source_training.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_infos(path)
    assert str(caught.value).startswith(f"{path}:{words}")


def test_a_table_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "infos_source_training.csv"
    path.write_bytes(b"\xef\xbb\xbfcrossmoda_name,center,koos\r\na,London,1\r\n\r\n")
    assert read_infos(path) == {"a": Info("London", "1")}


def test_folders_whose_names_have_brackets_count(tmp_path: Path) -> None:
    root = write(tmp_path, ["s [T1]/a.nii.gz", "l[x]?/a.nii.gz", "lx1/a.nii.gz"])
    [scan] = find_scans(root, "s [T1]/{case}.nii.gz", "l[x]?/{case}.nii.gz", EVERYONE)
    assert scan.labels == root / "l[x]?" / "a.nii.gz"
    data = Planner(load(RECIPES / "smoke.toml"), root).sources.of("l[x]?/{case}.nii.gz")
    assert list(data.settings["files"]) == ["l[x]?/a.nii.gz"]


def test_hidden_files_are_no_scans(tmp_path: Path) -> None:
    names = ["t/a.nii.gz", "t/._a.nii.gz", "t/.b.nii.gz", "p/c/x.nii.gz", "p/.d/x.nii.gz"]
    root = write(tmp_path, names)
    (root / "t" / ".link.nii.gz").symlink_to("/etc/passwd")
    refuse_links(root, ["t/{case}.nii.gz"])
    planner = Planner(load(RECIPES / "smoke.toml"), root)
    for pattern, case in {"t/{case}.nii.gz": "a", "p/{case}/x.nii.gz": "c"}.items():
        assert [scan.case for scan in find_scans(root, pattern, None, EVERYONE)] == [case]
        files = planner.sources.of(pattern).settings["files"]
        assert list(files) == [pattern.format(case=case)]
    assert len(find_scans(root, "p/.d/{case}.nii.gz", None, EVERYONE)) == 1


def test_n23_a_link_to_nowhere_is_no_scan_that_may_be_missing(tmp_path: Path) -> None:
    root = small_cohort(tmp_path / "data")
    (root / TARGET / "crossmoda2022_etz_8_hrT2.nii.gz").symlink_to("nowhere")
    [problem] = survey_of(root).problems
    assert "crossmoda2022_etz_8_hrT2.nii.gz: file: cannot be read" in problem


def test_n23_all_folders_without_permission_are_named_at_once(as_nobody: Path) -> None:
    root = small_cohort(as_nobody / "data")
    labels = "hidden/{case}.nii.gz"
    locked = [root / name for name in (SOURCE, TARGET, "hidden")]
    recipe = load(RECIPES / "smoke.toml").recipe
    data = recipe.data
    for folder in locked:
        folder.chmod(0)
    with pytest.raises(DataError) as linked:
        refuse_links(root, [data.source.images, data.target.images, labels])
    with pytest.raises(DataError) as found:
        check_data(recipe, root, allow_outside=True)
    for folder in locked:
        assert f"{folder}: cannot be read: Permission denied" in str(linked.value)
    assert f"{locked[0]}: cannot be read" in str(found.value)
    assert f"{locked[1]}: cannot be read" in str(found.value)
    for folder in locked[:2]:
        folder.chmod(0o700)
    [problem] = survey_of(root, f'evaluate.labels="{labels}"').problems
    assert problem == f"{locked[2]}: cannot be read: Permission denied"
    locked[2].chmod(0o700)


def test_n23_a_case_whose_folder_cannot_be_read_is_not_left_out(as_nobody: Path) -> None:
    root = write(as_nobody / "data", ["t/a/x.nii", "t/b/x.nii"])
    (root / "t" / "b").chmod(0)
    with pytest.raises(DataError, match=r"x\.nii: cannot be read: Permission denied"):
        find_scans(root, "t/{case}/x.nii", None, EVERYONE)
    (root / "t" / "b").chmod(0o700)


def test_n23_a_name_that_no_file_can_have_is_no_folder() -> None:
    recipe = load(RECIPES / "smoke.toml").recipe
    with pytest.raises(DataError, match="a: cannot be read: File name too long"):
        check_data(recipe, Path("a" * 300))


LAST = ("pseudo_label.last.train_on=target", "pseudo_label.last.preprocess.crop=[10000, 10000]")


@pytest.mark.parametrize(
    ("settings", "count"), [(("preprocess.crop=[10000, 10000]",), 6), (LAST, 4)]
)
def test_scans_whose_common_grid_explodes_are_found_before_anything_runs(
    settings: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    root = small_cohort(tmp_path / "data")
    problems = survey_of(root, *settings).problems
    assert len(problems) == count
    scan = root / HELD_OUT / "crossmoda2022_etz_3_hrT2.nii.gz"
    assert problems[-1].startswith(f"{scan}: pixdim: voxels of 1 x 2 x 1.5 mm give 10000 x 10000")
    assert survey_of(root, *settings, "intake.limits.max_voxels=1000000000").problems == []


def test_patients_that_do_not_fit_come_with_all_other_problems(tmp_path: Path) -> None:
    root = small_cohort(tmp_path / "data")
    broken = root / SOURCE / "crossmoda2021_ldn_1_ceT1.nii.gz"
    broken.write_bytes(b"x")
    problems = "\n".join(survey_of(root, 'data.patients="{patient}_ses-*"').problems)
    assert str(broken) in problems
    for split in ("source", "target", "validation"):
        assert f"{split}: patients: data.patients = '{{patient}}_ses-*' does not match" in problems


PIECES = st.lists(st.sampled_from(["a", "b", "*", "."]), max_size=4).map("".join)


@given(PIECES, PIECES, st.text("ab.", min_size=1, max_size=8))
def test_a_patient_is_what_an_expression_would_find(before: str, after: str, case: str) -> None:
    one, other = (".*".join(map(re.escape, part.split("*"))) for part in (before, after))
    expected = re.fullmatch(f"{one}(?P<patient>.+?){other}", case)
    found = patient_of(case, f"{before}{{patient}}{after}")
    assert found == (expected and expected["patient"])


def test_a_pattern_of_patients_takes_no_time() -> None:
    begin = time.process_time()
    assert patient_of("a" * 200, "*a" * 12 + "*{patient}X") is None
    assert patient_of("a" * 200, "*a" * 12 + "{patient}" + "a*" * 12 + "X") is None
    assert time.process_time() - begin < SOON_S
