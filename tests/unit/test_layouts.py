"""Recipes find their scans in the layouts data sets come in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from crossmod import DataError
from crossmod.cli import app
from crossmod.dataset import Info, Scan, find_scans, read_infos
from crossmod.recipe import load
from crossmod.splits import check_data

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
    data = load(RECIPES / f"{name}.toml").recipe.data
    found = check_data(data, write(tmp_path, files))
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
        check_data(load(RECIPES / "crossmoda2022.toml").recipe.data, root)
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
    found = check_data(data, root)
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
    assert shown.output.splitlines()[:3] == [
        "source     1 ldn, 1 etz; Koos 3: 1, post-operative: 1",
        "target     1 etz",
        "validation 1 ldn",
    ]


def test_a_table_that_contradicts_names_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["crossmoda2022"][0])
    infos(root, ["crossmoda2021_ldn_1,training_source,Tilburg,2",
                 "crossmoda2022_etz_0,training_source,London,3"])  # fmt: skip
    data = load(RECIPES / "crossmoda2022.toml").recipe.data
    with pytest.raises(DataError) as caught:
        check_data(data, root)
    assert "crossmoda2021_ldn_1: Tilburg in the table, ldn by its name" in str(caught.value)
    assert "crossmoda2022_etz_0: London in the table, etz by its name" in str(caught.value)
    elsewhere = data.model_copy(update={"centers": EVERYONE})
    assert check_data(elsewhere, root).lines()[0].startswith("source     2 all; Koos 2: 1, 3: 1")
    infos(root, [], header="crossmoda_name,center")
    with pytest.raises(DataError, match="has no column koos"):
        check_data(data, root)
