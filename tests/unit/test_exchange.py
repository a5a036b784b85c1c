"""nnU-Net raw folders in and out."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from crossmod import Cohort, DataError, Volume
from crossmod.cli import app
from crossmod.data.cohorts import CohortWriter
from crossmod.data.folder import find_scans
from crossmod.data.nifti import read_affine, read_image, read_labels
from crossmod.exchange.data_folder import Role, import_raw
from crossmod.exchange.nnunet_export import export_raw, load_joined
from crossmod.exchange.nnunet_raw import read_raw
from crossmod.recipe.load import load
from crossmod.run.data import check_data

RECIPES = Path(__file__).parents[2] / "recipes"
CLASSES = {"background": 0, "tumor": 1, "cochlea": 2}


def save(path: Path, seed: int = 0, values: int = 200) -> None:
    data = np.random.default_rng(seed).integers(0, values, (4, 5, 6)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([0.4, 0.4, 1.5, 1])), path)


def dataset(
    folder: Path,
    training: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    labeled: Sequence[str] = (),
    channels: Sequence[str] = ("T1",),
    ending: str = ".nii.gz",
    labels: Mapping[str, object] = CLASSES,
    **extra: object,
) -> Path:
    """Write an nnU-Net v2 raw folder."""
    for part, cases in (("Tr", training), ("Ts", test)):
        for case in cases:
            for number in range(len(channels)):
                save(folder / f"images{part}" / f"{case}_{number:04}{ending}", number)
    for case in labeled:
        part = "Ts" if case in test else "Tr"
        save(folder / f"labels{part}" / f"{case}{ending}", values=3)
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": len(training),
        "file_ending": ending,
        **extra,
    }
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def cohort(folder: Path, names: Sequence[str], *, labels: bool = True) -> Path:
    """A step folder with one case for each name; `a+x` is a copy of patient `a`."""
    writer = CohortWriter(folder, {"tumor": 1, "cochlea": 2})
    affine = np.diag([0.6, -0.6, 1.0, 1.0])
    affine[:3, 3] = (1 / 3, 20.1, -7)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        image = Volume.of(rng.random((1, 4, 5, 6), dtype=np.float32), affine, case=name)
        label_map = rng.integers(0, 3, (4, 5, 6)).astype(np.uint8) if labels else None
        writer.add(image, patient=name.split("+")[0], labels=label_map)
    writer.close()
    return folder


def export(joined: Cohort, out: Path, number: int = 501, name: str = "FakeT2") -> Path:
    done = export_raw(joined, out, number=number, name=name, channel="T2")
    return done.folder


def test_labeled_scans_become_the_source_and_others_the_target(tmp_path: Path) -> None:
    out = tmp_path / "data"
    one = dataset(tmp_path / "Dataset001_T1", ["a", "b"], ["z"], labeled=["a", "b"])
    done = import_raw(read_raw(one, None), out, None)
    assert (done.role, done.scans, done.left_out) == (Role.SOURCE, 2, 1)
    other = dataset(tmp_path / "Dataset002_T2", ["c"], ["d"], labels={})
    assert import_raw(read_raw(other, None), out, None).role is Role.TARGET
    assert files(out) == {
        "data.toml",
        *(f"source/{kind}/{case}.nii.gz" for kind in ("images", "labels") for case in "ab"),
        *(f"target/images/{case}.nii.gz" for case in "cd"),
    }
    for kind, name in (("images", "a_0000"), ("labels", "a")):
        given = one / f"{kind}Tr" / f"{name}.nii.gz"
        assert (out / "source" / kind / "a.nii.gz").read_bytes() == given.read_bytes()
    assert tomllib.loads((out / "data.toml").read_text(encoding="utf-8")) == {
        "data": {
            "source": {
                "images": "source/images/{case}.nii.gz",
                "labels": "source/labels/{case}.nii.gz",
            },
            "target": {"images": "target/images/{case}.nii.gz"},
            "centers": {"all": "*"},
            "classes": {"tumor": 1, "cochlea": 2},
        }
    }


def test_a_recipe_reads_what_was_imported(tmp_path: Path) -> None:
    out = tmp_path / "data"
    source = dataset(tmp_path / "one", ["a"], labeled=["a"])
    target = dataset(tmp_path / "two", ["b"], ending=".nii")
    validation = dataset(tmp_path / "three", ["c"], labeled=["c"])
    import_raw(read_raw(source, None), out, None)
    import_raw(read_raw(target, None), out, None)
    done = import_raw(read_raw(validation, None), out, Role.VALIDATION)
    assert done.references == 1
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'extends = "{RECIPES / "quickstart.toml"}"\n{done.table}', encoding="utf-8")
    checked = load(recipe).recipe
    found = check_data(checked, out)
    assert {split: [scan.case for scan in scans] for split, scans in found.splits.items()} == {
        "source": ["a"],
        "target": ["b"],
        "validation": ["c"],
    }
    assert checked.evaluate.splits == ("validation",)  # target scans have no references
    assert (out / str(checked.evaluate.labels).format(case="c")).is_file()


def test_an_import_adds_to_its_table_and_leaves_one_that_somebody_changed(tmp_path: Path) -> None:
    out = tmp_path / "data"
    import_raw(read_raw(dataset(tmp_path / "one", ["a"], labeled=["a"]), None), out, None)
    table = out / "data.toml"
    import_raw(read_raw(dataset(tmp_path / "two", ["b"]), None), out, None)
    assert set(tomllib.loads(table.read_text(encoding="utf-8"))["data"]) >= {"source", "target"}
    mine = "# my remark\n" + table.read_text(encoding="utf-8").replace("all =", "mine =")
    table.write_text(mine, encoding="utf-8")
    raw = read_raw(dataset(tmp_path / "three", ["c"]), None)
    done = import_raw(raw, out, Role.VALIDATION)
    assert table.read_text(encoding="utf-8") == mine
    assert [text for text in done.remarks if f"{table}: was edited by hand" in text]
    assert done.table.startswith("# my remark")
    wanted = tomllib.loads(done.table)["data"]
    assert wanted["centers"] == {"mine": "*"}
    assert wanted["validation"] == {"images": "validation/images/{case}.nii.gz"}


def test_an_import_replaces_no_label_map(tmp_path: Path) -> None:
    out = tmp_path / "data"
    raw = read_raw(dataset(tmp_path / "one", ["a"], labeled=["a"]), None)
    (out / "hidden").mkdir(parents=True)
    (out / "hidden" / "a.nii.gz").write_bytes(b"drawn by hand")
    with pytest.raises(
        DataError, match=r"different label maps with these names:\n.*hidden/a\.nii\.gz"
    ):
        import_raw(raw, out, Role.TARGET)
    assert files(out) == {"hidden/a.nii.gz"}
    given = tmp_path / "one" / "labelsTr" / "a.nii.gz"
    (out / "hidden" / "a.nii.gz").write_bytes(given.read_bytes())  # as an import that was killed
    assert import_raw(raw, out, Role.TARGET).references == 1


def test_version_1_is_understood(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "Task001_T1", ["a"], labeled=["a"])
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "tumor"}}
    (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": 1}))
    assert read_raw(folder, None).classes == {"tumor": 1}


def test_version_1_may_give_a_class_several_values(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "tumor", "2": "tumor"}
    folder = dataset(tmp_path / "d", ["a"], labeled=["a"], labels=labels)
    assert read_raw(folder, None).classes == {"tumor": [1, 2]}


def test_parts_of_one_class_stay_together(tmp_path: Path) -> None:
    labels = {"background": 0, "tumor": [2, 3], "cochlea": 1}
    folder = dataset(tmp_path / "d", ["a"], labeled=["a"], labels=labels)
    raw = read_raw(folder, None)
    assert raw.classes == {"tumor": [2, 3], "cochlea": 1}
    assert "tumor = [2, 3]" in import_raw(raw, tmp_path / "out", None).table


def test_one_of_several_channels_is_chosen(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", ["a"], channels=("T1", "T2"))
    with pytest.raises(DataError, match=r"choose --channel 0 \(T1\), --channel 1 \(T2\)"):
        read_raw(folder, None)
    with pytest.raises(DataError, match="no channel 2"):
        read_raw(folder, 2)
    assert read_raw(folder, 1).training[0].image.name == "a_0001.nii.gz"


def test_every_problem_of_the_description_is_named(tmp_path: Path) -> None:
    labels = {"all": [1, 2], "core": 2, "ignore": 3, "large": 300}
    folder = dataset(tmp_path / "d", ["a"], labels=labels, ending=".tif", channels=(), dataset={})
    with pytest.raises(DataError) as caught:
        read_raw(folder, None)
    for text in ("overlap in value 2", "'ignore'", "300", "'.tif'", "channel_names", '"dataset"'):
        assert text in str(caught.value)
    with pytest.raises(DataError, match="name the folder of one data set"):
        read_raw(tmp_path, None)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_raw(folder, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"labels": [1]}', "labels are [1], not a table"),
        ('{"labels": "x"}', "labels are 'x', not a table"),
        ('{"labels": {"\u00b2": "tumor"}}', "is 'tumor'; crossmod reads 0 to 255"),
        (f'{{"labels": {{"{"1" * 5000}": "tumor"}}}}', "is 'tumor'; crossmod reads 0 to 255"),
        ('{"labels": {"tumor": true}}', "label 'tumor' is True"),
        ('{"labels": {"tumor": []}}', "label 'tumor' is []"),
        ('{"channel_names": {"\u00b2": "T1"}}', 'lacks the table "channel_names"'),
        (f'{{"channel_names": {{"{"1" * 5000}": "T1"}}}}', 'lacks the table "channel_names"'),
        ("[" * 200_000, "is not JSON"),
        (f'{{"numTraining": {"1" * 5000}}}', "is not JSON"),
        (b'{"labels": {"\xff": 1}}', "is not UTF-8"),
        ("[]", "holds no table"),
    ],
)
def test_descriptions_of_strangers_are_refused(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    file = tmp_path / "dataset.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_raw(tmp_path, None)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_description_may_begin_with_the_mark_of_spreadsheets(tmp_path: Path) -> None:
    file = dataset(tmp_path / "d", ["a"], labeled=["a"]) / "dataset.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_raw(tmp_path / "d", None).classes == {"tumor": 1, "cochlea": 2}


def test_every_file_without_its_partner_is_named(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", ["a", "b", "c"], ["c"], labeled=["a", "lost"])
    save(folder / "imagesTr" / "decathlon.nii.gz")
    (folder / "imagesTr" / "b_0000.nii.gz").rename(folder / "imagesTr" / "b_0001.nii.gz")
    (folder / "imagesTr" / "._a_0000.nii.gz").touch()
    with pytest.raises(DataError) as caught:
        read_raw(folder, None)
    for text in (
        "labelsTr/lost.nii.gz: no image",
        "imagesTr/b: no label map",
        "imagesTr/b_0000.nii.gz is missing",
        "imagesTr/decathlon.nii.gz: no channel number",
        "c: in imagesTr and in imagesTs",
    ):
        assert text in str(caught.value)
    with pytest.raises(DataError, match="no image in imagesTr or imagesTs"):
        read_raw(dataset(tmp_path / "empty"), None)
    with pytest.raises(DataError, match="promises 7 training cases, found 1"):
        read_raw(dataset(tmp_path / "half", ["a"], numTraining=7), None)


def test_an_import_that_would_mix_scans_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "data"
    labeled = read_raw(dataset(tmp_path / "one", ["a"], labeled=["a"]), None)
    import_raw(labeled, out, None)
    with pytest.raises(DataError, match="exists already"):
        import_raw(labeled, out, None)
    import_raw(labeled, out, Role.TARGET)  # another modality of the same patient
    with pytest.raises(DataError, match="would share the cases a"):
        import_raw(labeled, out, Role.VALIDATION)
    with pytest.raises(DataError, match="source scans need label maps"):
        import_raw(read_raw(dataset(tmp_path / "two", ["b"]), None), out, Role.SOURCE)
    swapped = {"tumor": 2, "cochlea": 1}
    other = dataset(tmp_path / "three", ["c"], labeled=["c"], labels=swapped)
    with pytest.raises(DataError, match="class 'tumor' is 1 here, 2 in the data set"):
        import_raw(read_raw(other, None), out, Role.VALIDATION)
    assert not (out / "validation").exists()


def test_out_and_in_again_gives_the_same_voxels_and_affines(tmp_path: Path) -> None:
    step = cohort(tmp_path / "step", ["a", "b"])
    folder = export(load_joined([step]), tmp_path / "raw")
    import_raw(read_raw(folder, None), tmp_path / "back", None)
    scans = find_scans(
        tmp_path / "back", "source/images/{case}.nii.gz", "source/labels/{case}.nii.gz", {"x": "*"}
    )
    cases = Cohort.load(step).cases
    for scan, case in zip(scans, cases, strict=True):
        assert scan.labels is not None
        assert case.labels is not None
        np.testing.assert_array_equal(read_image(scan.image), read_image(case.image))
        np.testing.assert_array_equal(read_labels(scan.labels), read_labels(case.labels))
        for one, other in ((scan.image, case.image), (scan.labels, case.labels)):
            np.testing.assert_array_equal(read_affine(one), read_affine(other))


def test_an_export_has_what_nnunet_checks(tmp_path: Path) -> None:
    labeled = cohort(tmp_path / "labeled", ["a", "b+small-x0.6"])
    unlabeled = cohort(tmp_path / "unlabeled", ["c"], labels=False)
    folder = export(load_joined([labeled, unlabeled]), tmp_path / "raw", 7)
    assert folder.name == "Dataset007_FakeT2"
    assert json.loads((folder / "dataset.json").read_text(encoding="utf-8")) == {
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "tumor": 1, "cochlea": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    assert files(folder) == {
        "dataset.json",
        "imagesTr/a_0000.nii.gz",
        "imagesTr/b+small-x0.6_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b+small-x0.6.nii.gz",
        "imagesTs/c_0000.nii.gz",
    }
    assert files(tmp_path / "raw") == {f"{folder.name}/{name}" for name in files(folder)}


def test_voxels_that_a_case_ignores_have_the_label_of_nnunet(tmp_path: Path) -> None:
    step = cohort(tmp_path / "step", ["a", "b"])
    [first, other] = Cohort.load(step).cases
    pair = first.pair()
    mask = np.zeros(pair.labels.shape, bool)
    mask[1:3] = True
    writer = CohortWriter(tmp_path / "masked", Cohort.load(step).classes)
    writer.add_pair(replace(pair, weight=0.5, ignore=mask))
    writer.add_pair(other.pair())
    writer.close()
    folder = export(load_joined([tmp_path / "masked"]), tmp_path / "raw")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert content["labels"] == {"background": 0, "tumor": 1, "cochlea": 2, "ignore": 3}
    written = [read_labels(folder / "labelsTr" / f"{case}.nii.gz") for case in "ab"]
    np.testing.assert_array_equal(written[0], np.where(mask, 3, pair.labels))
    np.testing.assert_array_equal(written[1], other.pair().labels)


def test_copies_of_a_patient_stay_in_one_fold(tmp_path: Path) -> None:
    originals = cohort(tmp_path / "originals", list("abcdef"))
    copies = cohort(tmp_path / "copies", [f"{name}+1" for name in "abc"])
    folder = export(load_joined([originals, copies]), tmp_path / "raw")
    splits = json.loads((folder / "splits_final.json").read_text(encoding="utf-8"))
    assert len(splits) == 5
    for split in splits:
        assert len(split["train"]) + len(split["val"]) == 9
        train, validation = ({name[0] for name in split[part]} for part in ("train", "val"))
        assert not train & validation
    read_raw(folder, None)


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    step = cohort(tmp_path / "run" / "02-step", ["a"])
    joined = load_joined([step])
    with pytest.raises(DataError, match=r"holds no cohort\.json") as caught:
        load_joined([tmp_path / "run"])
    assert "02-step" in str(caught.value)
    with pytest.raises(DataError, match="in more than one cohort: a"):
        load_joined([step, step])
    other = CohortWriter(tmp_path / "other", {"nerve": 1})
    other.folder.mkdir()
    other.close()
    with pytest.raises(DataError, match=r"classes are .*nerve"):
        load_joined([step, other.folder])
    for number in (0, 1000):
        with pytest.raises(DataError, match="1 to 999"):
            export(joined, tmp_path / "raw", number)
    with pytest.raises(DataError, match="'a b' is not a name"):
        export(joined, tmp_path / "raw", name="a b")
    export(joined, tmp_path / "raw")
    with pytest.raises(DataError, match="number 501 is taken"):
        export(joined, tmp_path / "raw", name="Other")


ROW = {"case": "a", "patient": "a", "center": "", "image": "images/a.nii", "labels": None}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", b"\xff", "[" * 200_000, '{"classes": {"tumor": 1}, "cases": [5]}',
     '{"classes": [], "cases": []}'],
)  # fmt: skip
def test_a_damaged_cohort_is_refused(tmp_path: Path, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "cohort.json").write_bytes(raw)
    with pytest.raises(DataError, match=r"cohort\.json"):
        load_joined([tmp_path])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"case": "../../../../evil"}, "the case id holds '/'"),
        ({"image": "../other/images/a.nii"}, "a: ../other/images/a.nii lies outside"),
        ({"image": "/etc/passwd"}, "a: /etc/passwd lies outside"),
        ({"labels": "link/a.nii"}, "a: link/a.nii lies outside"),
        ({"labels": "a\0"}, "lies outside"),
    ],
)
def test_a_cohort_cannot_leave_its_folder(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    cohort(tmp_path / "other", ["a"])
    step = cohort(tmp_path / "step", ["a"])
    (step / "link").symlink_to(tmp_path / "other" / "labels")
    content = {"classes": {"tumor": 1}, "cases": [{**ROW, **change}]}
    (step / "cohort.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_joined([step])
    assert said in str(caught.value)


def test_files_of_a_cohort_are_read_as_those_of_strangers(tmp_path: Path) -> None:
    step = cohort(tmp_path / "step", ["a"])
    (step / "images" / "a.nii").write_text("root:x:0:0", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.nii: header: not NIfTI"):
        export(load_joined([step]), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_phantom_needs_a_seed_and_room(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["data", "phantom", str(tmp_path / "new"), "--seed=-1"]).exit_code == 2
    (tmp_path / "file").touch()
    done = run(app, ["data", "phantom", str(tmp_path / "file")])
    assert isinstance(done.exception, DataError)
    assert "file: is a file" in str(done.exception)


def test_the_commands(tmp_path: Path) -> None:
    step = cohort(tmp_path / "06-translate-sharpen", ["a", "a+1", *"bcdef"])
    run = CliRunner().invoke
    out = run(app, ["data", "export", "--format", "nnunet", str(step), str(tmp_path / "raw"),
                    "--dataset", "501", "--name", "FakeT2"])  # fmt: skip
    assert out.exit_code == 0
    assert "7 labeled and 0 other scans" in out.output
    assert "splits_final.json" in out.output
    raw = str(tmp_path / "raw" / "Dataset501_FakeT2")
    out = run(app, ["data", "import", raw, str(tmp_path / "in"), "--as", "validation"])
    assert out.exit_code == 0
    assert "7 scans in" in out.output
    assert "7 label maps to score against" in out.output
    assert 'images = "validation/images/{case}.nii.gz"' in out.output
