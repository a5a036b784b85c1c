"""From a run to a model folder to label maps, as a user does it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import suppress
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bright import site
from processor import AFFINE_MM
from program import ROOT, Program, Result
from scenes import centered, depth_mm, scene, write, write_dicom
from sheets import rows_of
from tiny import Tiny, begun, settings

DOCKERFILE = ROOT / "docs" / "how-to" / "Dockerfile"
GRID = (1.23, 1.37, 2.11), (76, 64, 42)
"""No voxel lies halfway between two of the model's. Turned as below, no voxel's share of tumor is
nearer to a half than 1e-3; rounded affines change it by less than a tenth of that."""


def labels_in(folder: Path, case: str) -> nibabel.Nifti1Image:
    return nibabel.load(folder / f"{case}.nii.gz")


def values(image: nibabel.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def confidence_in(folder: Path) -> list[dict[str, str]]:
    return rows_of(folder / "confidence.csv")


@pytest.fixture(scope="module")
def two_folds(undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The tiny recipe with an ensemble, and without augmentation."""
    tiny = begun(undisturbed, tmp_path_factory.mktemp("two-folds") / "tiny")
    tiny.go(*settings("segment.folds=2", "augment=false"))
    return tiny.result


@pytest.fixture(scope="module")
def trained(program: Program, two_folds: Result) -> Path:
    """A package of it."""
    model = program.folder / "trained"
    assert "round-1, 2 folds" in program("package", two_folds.folder, model).stdout
    return model


@pytest.fixture(scope="module")
def bright_site(program: Program) -> Path:
    return site(program.folder / "bright-site")


@pytest.fixture(scope="module")
def bright(program: Program, bright_site: Path, undisturbed: Tiny) -> Path:
    """The package of a run whose segmenter finds bright voxels."""
    changes = settings("segment.use=bright", "translate=false", "augment=false",
                       "pseudo_label=false", 'evaluate.compare=["no-adaptation"]',
                       "preprocess.crop=[56,56]", "preprocess.clip_fractions=[0.0,1.0]",
                       "evaluate.splits=[\"validation\"]")  # fmt: skip
    data = undisturbed.result.folder / "01-phantom"
    run = program.run("bright-run", "--data", data, *changes, path=bright_site)
    program("package", run.folder, program.folder / "bright", path=bright_site)
    return program.folder / "bright"


def test_a_package_predicts_what_the_run_predicted(
    program: Program, two_folds: Result, trained: Path
) -> None:
    phantom = two_folds.folder / "01-phantom"
    scans = {"validation": phantom / "crossmoda2022_validation" / "validation",
             "target": phantom / "crossmoda2022_training" / "training_target"}  # fmt: skip
    for split, folder in scans.items():
        out = program.folder / f"again-{split}"
        done = program("predict", trained, folder, out, "--ending", "_hrT2")
        [known] = two_folds.folder.glob(f"*-predict-round-1-{split}/labels")
        for path in known.iterdir():
            one, other = nibabel.load(path), nibabel.load(out / path.name)
            np.testing.assert_array_equal(values(one), values(other))
            np.testing.assert_array_equal(one.affine, other.affine)
            assert path.name.removesuffix(".nii.gz")[:12] in done.stdout
        assert len(list(out.glob("[!.]*"))) == len(list(known.iterdir())) + 1
    rows = confidence_in(program.folder / "again-validation")
    columns = ["case", "class", "agreement", "probability", "volume_mm3", "flag", "removed_mm3"]
    assert list(rows[0]) == [*columns, "expected_dice", "lower_dice", "upper_dice"]
    assert len(rows) == 2 * 2
    assert all(0 <= float(row["agreement"]) <= 1 for row in rows)


def test_one_fold_predicts_what_the_run_predicted(
    program: Program, undisturbed: Tiny, tmp_path: Path
) -> None:
    run = undisturbed.result.folder
    program("package", run, tmp_path / "model", "--stage", "augmented")
    scans = run / "01-phantom" / "crossmoda2022_validation" / "validation"
    program("predict", tmp_path / "model", scans, tmp_path / "out", "--ending", "_hrT2")
    [known] = run.glob("*-predict-augmented-validation/labels")
    for path in known.iterdir():
        found = values(nibabel.load(tmp_path / "out" / path.name))
        np.testing.assert_array_equal(values(nibabel.load(path)), found)
    assert {row["agreement"] for row in confidence_in(tmp_path / "out")} == {""}


def test_a_copied_run_folder_is_enough_and_gives_the_same_package(
    program: Program, two_folds: Result, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(two_folds.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "01-phantom")
    program("package", tmp_path / "run", tmp_path / "model")
    for path in trained.iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes()


def test_a_package_has_no_pickle_no_place_and_no_patient(
    program: Program, two_folds: Result, trained: Path
) -> None:
    cases = {row["case"] for row in two_folds.scores()}
    assert cases
    for path in trained.iterdir():
        content = path.read_bytes()
        assert not content.startswith(
            (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
        ), path
        assert path.suffix in (".safetensors", ".json", ".toml", ".md")
        for text in (str(program.folder), str(Path.home()), "/tmp/", *cases):
            assert text.encode() not in content, f"{path.name}: {text}"
    facts = json.loads((trained / "model.json").read_text(encoding="utf-8"))
    assert facts["origin"]["data"]["validation"]["centers"] == {"ldn": 1, "etz": 1}
    assert facts["trained_on"] == {"translate-sharpen": 2, "pseudo-label-1": 2}
    assert len(facts["weights"]["fold-1.safetensors"]["notes"]["plan"]["patch"]) == 3
    assert {row["split"] for row in facts["scores"]} == {"validation", "target"}


# Where outlines land.


def test_all_orders_of_axes_give_the_same_outline(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    """The same voxels stored in all 48 orders and directions of axes."""
    affine = centered(*GRID, turn=(4, -6, 8))
    original = nibabel.Nifti1Image(scene(affine, GRID[1]), affine)
    axes = list(product(permutations(range(3)), product((1, -1), repeat=3)))
    for number, (order, signs) in enumerate(axes):
        orientation = np.array(list(zip(order, signs, strict=True)), float)
        turned = original.as_reoriented(orientation)
        nibabel.save(turned, tmp_path / f"{number}.nii")
    program("predict", bright, tmp_path, tmp_path / "out", path=bright_site)
    first = nibabel.as_closest_canonical(labels_in(tmp_path / "out", "0"))
    assert np.count_nonzero(values(first) == 1) > 500
    for number in range(len(axes)):
        found = labels_in(tmp_path / "out", str(number))
        scan = nibabel.load(tmp_path / f"{number}.nii")
        assert found.shape == scan.shape
        np.testing.assert_array_equal(found.affine, scan.affine)
        again = nibabel.as_closest_canonical(found)
        np.testing.assert_array_equal(values(again), values(first))
        np.testing.assert_allclose(again.affine, first.affine, atol=AFFINE_MM)


GRIDS = {
    "straight": ((1.0, 1.0, 1.0), (90, 90, 90), (0, 0, 0)),
    "thick": ((0.6, 0.6, 3.0), (150, 150, 30), (0, 0, 0)),
    "tilted": ((0.9, 0.9, 1.8), (100, 100, 50), (20, 0, 0)),
    "oblique": ((1.0, 1.3, 1.6), (90, 70, 56), (17, -12, 25)),
    "sagittal": ((0.9, 1.1, 1.5), (100, 82, 60), (85, 3, 80)),
}


def test_outlines_lie_where_the_tumor_is(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    """One world on straight, oblique and anisotropic grids: right within a voxel of mm."""
    for case, (spacing, shape, turn) in GRIDS.items():
        affine = centered(spacing, shape, turn)
        write(tmp_path / f"{case}.nii.gz", scene(affine, shape), affine)
    program("predict", bright, tmp_path, tmp_path / "out", path=bright_site)
    for case, (spacing, _, _) in GRIDS.items():
        found = labels_in(tmp_path / "out", case)
        depth = depth_mm(found.affine, found.shape)
        tumor = values(found) == 1
        assert tumor[depth > max(1.5, *spacing)].all(), case
        assert not tumor[depth < -max(1.5, *spacing)].any(), case
        wrong = np.abs(depth[tumor != (depth > 0)])
        assert wrong.size == 0 or wrong.max() < max(1.5, *spacing), case
    volumes = [float(row["volume_mm3"]) for row in confidence_in(tmp_path / "out")
               if row["class"] == "tumor"]  # fmt: skip
    assert volumes == pytest.approx([4 / 3 * np.pi * 8**3] * len(GRIDS), rel=0.06)


@pytest.mark.parametrize("turn", [(0, 0, 0), (15, -10, 20), (87, 0, 85)])
def test_dicom_and_nifti_of_one_scan_give_one_outline(
    turn: tuple[float, ...], program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    spacing, shape = GRID
    affine = centered((-spacing[0], -spacing[1], spacing[2]), shape, turn)  # as scanners store it
    data = scene(affine, shape)
    write(tmp_path / "nifti.nii.gz", data, affine)
    write_dicom(tmp_path / "dicom", data, affine)
    arguments = [tmp_path / "nifti.nii.gz", tmp_path / "dicom", tmp_path / "out"]
    program("predict", bright, *arguments, path=bright_site)
    nifti, dicom = (labels_in(tmp_path / "out", case) for case in ("nifti", "dicom"))
    np.testing.assert_allclose(nifti.affine, dicom.affine, atol=AFFINE_MM)
    np.testing.assert_array_equal(values(nifti), values(dicom))
    assert (values(nifti) == 1).sum() > 500


# What can go wrong.

STARTING = """
import os, subprocess, time
NOTE = 'echo $$ > "$PIDS.new"; mv "$PIDS.new" "$PIDS"; exec sleep 300'
START = ["setsid", "-f", "sh", "-c", NOTE]

class Starting(Bright):
    def predict(self, volumes, state, ctx):
        subprocess.Popen(START).wait()
        for prediction in super().predict(volumes, state, ctx):
            yield prediction
            if prediction.case == "wait":
                time.sleep(300)

Bright = Starting
"""
"""Starts a program of its own session that holds the output of the command open."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps orphans in sight")
@pytest.mark.parametrize(
    ("case", "sent", "code"),
    [("a", 0, 0), ("trouble", 0, 4), ("wait", signal.SIGINT, 130), ("wait", signal.SIGTERM, 5)],
)
def test_programs_end_with_the_command(
    case: str, sent: int, code: int, program: Program, bright: Path, tmp_path: Path
) -> None:
    affine, pids = centered(*GRID), tmp_path / "pids"
    scan = write(tmp_path / f"{case}.nii.gz", scene(affine, GRID[1]), affine)
    where = {"PYTHONPATH": str(site(tmp_path / "site", more=STARTING)), "PIDS": str(pids)}
    command = program.start("predict", bright, scan, tmp_path / "out", **where)
    try:
        while sent and not (pids.exists() and list((tmp_path / "out").glob("*.csv"))):
            assert command.poll() is None
            time.sleep(0.05)
        if sent:
            command.send_signal(sent)
        said = "".join(command.communicate(timeout=120))
        assert command.returncode == code, said
        assert "plugin 'bright' (crossmod-bright 0.3) left programs running: sleep" in said
        assert not Path("/proc", pids.read_text().strip()).exists()
    finally:
        command.kill()
        with suppress(OSError):
            os.kill(int(pids.read_text()), signal.SIGKILL)


def test_one_bad_scan_does_not_stop_the_others(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    data = scene(affine, GRID[1])
    scans = tmp_path / "scans"
    for case in ("a", "trouble", "z"):
        write(scans / f"{case}.nii.gz", data, affine)
    write(scans / "four.nii", np.stack([data, data], axis=-1), affine)
    write(scans / "nan.nii", np.where(data > 900, np.nan, data).astype(np.float32), affine)
    (scans / "text.nii.gz").write_text("not found", encoding="utf-8")
    done = program("predict", bright, scans, tmp_path / "out", code=3, path=bright_site)
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
    assert names == ["a.nii.gz", "confidence.csv", "z.nii.gz"]
    assert [row["case"] for row in confidence_in(tmp_path / "out")] == ["a", "a", "z", "z"]
    assert "2 of 6 scans outlined" in done.stdout
    for part in (
        "4 scans could not be outlined",
        "four.nii: dim: 76 x 64 x 42 x 2 voxels",
        "are NaN or infinite as float32",
        "text.nii.gz: header: not NIfTI",
        "trouble: plugin 'bright' (crossmod-bright 0.3): ValueError",
        "ValueError: too much trouble",
    ):
        assert part in done.stderr
    only = program("predict", bright, scans / "trouble.nii.gz", tmp_path / "none", code=4,
                   path=bright_site)  # fmt: skip
    assert "0 of 1 scans outlined" in only.stdout


def test_what_is_odd_about_a_scan_is_said(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    scan = write(tmp_path / "a.nii.gz", scene(affine, GRID[1]), affine)
    plain = scan.rename(tmp_path / "a.nii")
    done = program("predict", bright, plain, tmp_path / "out", path=bright_site)
    assert f"note: {plain}: name: does not match the content, which is gzip" in done.stdout


def test_overwrite_replaces_what_predict_wrote_and_nothing_else(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    for case in "ab":
        write(tmp_path / "in" / f"{case}.nii.gz", scene(affine, GRID[1]), affine)
    out = tmp_path / "out"
    again = ["predict", bright, tmp_path / "in", out]
    program(*again, path=bright_site)
    first = (out / "a.nii.gz").read_bytes()
    refused = program(*again, code=3, path=bright_site).stderr
    assert "already holds files with these names: a.nii.gz, b.nii.gz, confidence.csv" in refused
    assert "--overwrite" in refused
    (out / "a.nii.gz").write_bytes(b"half")
    (out / "a.nii.gz").unlink()  # what is missing is written again
    program(*again, "--overwrite", path=bright_site)
    assert (out / "a.nii.gz").read_bytes() == first

    corrected = write(out / "b.nii.gz", np.ones(GRID[1], np.uint8), affine).read_bytes()
    for overwrite in ([], ["--overwrite"]):
        refused = program(*again, *overwrite, code=3, path=bright_site).stderr
        assert f"{out / 'b.nii.gz'}: was not written by crossmod predict, or" in refused
        assert "a.nii.gz" not in refused
        assert "--overwrite" not in refused
        assert (out / "b.nii.gz").read_bytes() == corrected
        assert (out / "a.nii.gz").read_bytes() == first


def test_label_maps_are_called_as_asked(
    program: Program, bright: Path, bright_site: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    write(tmp_path / "in" / "a_hrT2.nii.gz", scene(affine, GRID[1]), affine)
    write(tmp_path / "in" / "a_ceT1.nii.gz", scene(affine, GRID[1]), affine)
    naming = ["--ending", "_hrT2", "--name", "{case}_Label"]
    arguments = [bright, tmp_path / "in", tmp_path / "out", *naming]
    program("predict", *arguments, path=bright_site)
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
    assert names == ["a_Label.nii.gz", "confidence.csv"]
    for name in ("label", "../{case}", "{case}/{case}"):
        wrong = [bright, tmp_path / "in", tmp_path / "new", "--name", name]
        assert "--name" in program("predict", *wrong, code=2, path=bright_site).stderr


def test_a_missing_plugin_is_named_with_its_version(
    program: Program, bright: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    scan = write(tmp_path / "a.nii.gz", scene(affine, GRID[1]), affine)
    missing = program("predict", bright, scan, tmp_path / "out", code=4).stderr
    assert "'bright' of crossmod-bright 0.3, which is not installed" in missing
    assert "install crossmod-bright 0.3" in missing
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("version", "more", "said"),
    [
        ("0.4", "", "installed is 'bright' of crossmod-bright 0.4"),
        ("0.3", "\n# changed\n", "code of plugin 'bright' of crossmod-bright 0.3 has changed"),
    ],
)
def test_another_plugin_version_is_a_warning(
    version: str, more: str, said: str, program: Program, bright: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    scan = write(tmp_path / "a.nii.gz", scene(affine, GRID[1]), affine)
    other = site(tmp_path / "site", version, more)
    done = program("predict", bright, scan, tmp_path / "out", path=other)
    assert "warning: " in done.stdout
    assert said in done.stdout.replace("\n", " ")


def test_damaged_weights_stop_before_any_scan(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    model = tmp_path / "elsewhere" / "model"
    shutil.copytree(trained, model)
    content = bytearray((model / "fold-2.safetensors").read_bytes())
    content[-3] ^= 4
    (model / "fold-2.safetensors").write_bytes(bytes(content))
    affine = centered(*GRID)
    scan = write(tmp_path / "a.nii.gz", scene(affine, GRID[1]), affine)
    assert "fold-2.safetensors: is damaged" in program(
        "predict", model, scan, tmp_path / "out", code=3
    ).stderr  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_an_error(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    affine = centered(*GRID)
    scan = write(tmp_path / "a.nii.gz", scene(affine, GRID[1]), affine)
    for device in ("cuda:77", "quantum"):
        arguments = [trained, scan, tmp_path / "out", "--device", device]
        assert f"--device {device}" in program("predict", *arguments, code=4).stderr


# The container.


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_what_the_container_copies_exists() -> None:
    for word, rest in instructions():
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() or source == "model" for source in sources), rest
    packages = re.findall(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"),
                          re.DOTALL | re.MULTILINE)  # fmt: skip
    copied = " ".join(rest for word, rest in instructions() if word == "COPY")
    for folder in re.findall(r'"(\w+)/?', packages[0]):
        assert folder in copied


def test_the_container_keeps_the_convention_of_the_challenge(
    program: Program, two_folds: Result, trained: Path, tmp_path: Path
) -> None:
    """Run the entry point on a read-only folder named as in the challenge."""
    scans = two_folds.folder / "01-phantom" / "crossmoda2022_validation" / "validation"
    places = {"/model": trained, "/input": tmp_path / "in", "/output": tmp_path / "out"}
    shutil.copytree(scans, places["/input"])
    places["/output"].mkdir()
    [entry] = [json.loads(rest) for word, rest in instructions() if word == "ENTRYPOINT"]
    command, *arguments = entry
    assert command == "crossmod"
    program(*(places.get(part, part) for part in arguments))
    names = {path.name for path in places["/output"].glob("[!.]*")}
    expected = {path.name.replace("_hrT2", "_Label") for path in scans.iterdir()}
    assert names == {*expected, "confidence.csv"}
