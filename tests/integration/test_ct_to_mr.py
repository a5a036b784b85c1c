"""recipes/ct-to-mr.toml runs from scans in nnU-Net's layout to scores, on small abdomens."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from program import ROOT, Program

from crossmod.data.cohorts import Cohort

RECIPE = ROOT / "recipes" / "ct-to-mr.toml"

SHAPE, SPACING_MM = (64, 56, 16), (6.0, 6.0, 8.0)

ORGANS = {
    1: ((22, 34), (9, 7)),
    2: ((25, 20), (3, 4)),
    3: ((44, 32), (4, 5)),
    4: ((34, 30), (6, 3)),
}
"""Value -> middle and radii of an organ, voxels: liver, right kidney, spleen, pancreas."""

HU = {"air": -1000, "fat": -100, "table": 150, 1: 60, 2: 130, 3: 90, 4: 40}
GRAY = {"air": 0, "fat": 900, "table": 0, 1: 350, 2: 600, 3: 500, 4: 420}

SMALL = """\
extends = "{recipe}"
title = "Small abdomens"
[data]
source.cases = "train.txt"
target.exclude = ["mr_9*"]
[preprocess]
spacing_mm = [6.0, 6.0, 8.0]
crop = [48, 36]
[translate.gan]
iterations = 2
base_channels = 4
blocks = 1
downsamplings = 1
discriminator_channels = 4
discriminator_layers = 1
[segment]
iterations = 2
base_channels = 4
patch = [24, 24, 16]
batch_size = 2
[pseudo_label]
rounds = 1
keep_empty = true
"""


def ellipse(middle: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    at = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum(((x - m) / r) ** 2 for x, m, r in zip(at, middle, radii, strict=False)) < 1


def abdomen(shift: tuple[int, int], values: dict[object, int]) -> tuple[np.ndarray, np.ndarray]:
    """A scan and its label map, with a table behind the patient."""
    image, labels = np.full(SHAPE, values["air"], float), np.zeros(SHAPE, np.uint8)
    image[8:56, 2:6] = values["table"]
    image[np.broadcast_to(ellipse((32 + shift[0], 28 + shift[1]), (22, 17)), SHAPE)] = values["fat"]
    for value, (middle, radii) in ORGANS.items():
        organ = ellipse((middle[0] + shift[0], middle[1] + shift[1]), radii)
        organ = np.broadcast_to(organ, SHAPE).copy()
        organ[..., [0, -1]] = False
        image[organ], labels[organ] = values[value], value
    return image, labels


def save(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*SPACING_MM, 1.0])), path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labeled CT scans, one of them damaged and unlisted; MR scans in units of their own."""
    root, random = tmp_path_factory.mktemp("abdomen") / "data", np.random.default_rng(3)
    ct, mr = root / "Dataset001_CT", root / "Dataset002_MR"
    for n in range(3):
        image, labels = abdomen((n - 1, 2 * n - 2), HU)
        image += random.normal(0, 15, SHAPE)
        image[~np.broadcast_to(ellipse((31.5, 27.5), (32.5, 28.5)), SHAPE)] = -3024  # padding
        save(ct / "imagesTr" / f"ct_{n}_0000.nii.gz", image.astype(np.int16))
        save(ct / "labelsTr" / f"ct_{n}.nii.gz", labels)
    (ct / "imagesTr" / "ct_bad_0000.nii.gz").write_bytes(b"not a scan")
    (root / "train.txt").write_text("ct_0\nct_1\nct_2\n", encoding="utf-8")
    for n, folder in enumerate(["imagesTr", "imagesTr", "imagesTr", "imagesTs", "imagesTs"]):
        image, labels = abdomen((n - 2, 2 - n), GRAY)
        image = (n + 1) * np.abs(image + random.normal(0, 15, SHAPE))
        case = f"mr_9{n}" if n == 2 else f"mr_{n}"
        save(mr / folder / f"{case}_0000.nii.gz", image.astype(np.float32))
        if folder == "imagesTs":
            save(mr / "labelsTs" / f"{case}.nii.gz", labels)
    return root


def prepared(out: Path, split: str) -> Cohort:
    return Cohort.load(next(out.glob(f"*prepare-{split}")))


def test_a_challenge_participant_starts_from_a_recipe_that_works(root: Path) -> None:
    crossmod = Program(root.parent)
    recipe = root.parent / "small.toml"
    recipe.write_text(SMALL.format(recipe=RECIPE), encoding="utf-8")
    checked = crossmod("check", recipe, "--data", root, "--allow-outside")
    assert "3 all" in checked.stdout
    assert "2 all" in checked.stdout
    result = crossmod.run("out", "--data", root, "--allow-outside", recipe=recipe)
    assert result.stages() == ["no-adaptation", "translated", "round-1"]
    assert {row["case"] for row in result.scores()} == {"mr_3", "mr_4"}
    assert {row["class"] for row in result.scores()} == {
        "liver", "right_kidney", "spleen", "pancreas"}  # fmt: skip
    source, target = prepared(result.folder, "source"), prepared(result.folder, "target")
    assert [case.case for case in target.cases] == ["mr_0", "mr_1"]
    for pair in source.pairs():
        assert set(np.unique(pair.labels)) == {0, 1, 2, 3, 4}, "no organ is cut off"
        # The window: air is black in every scan, the liver's 60 HU are 0.55.
        assert pair.image.data[0, pair.labels == 1].mean() == pytest.approx(0.55, abs=0.01)
    middles = [body_of(volume.data[0]) for volume in (*source.volumes(), *target.volumes())]
    assert np.ptp(middles, axis=0).max() <= 1, "the patient lies in the same place in all crops"


def body_of(image: np.ndarray) -> np.ndarray:
    """The middle of the patient in plane, voxels: halfway between the ends of what is not dark.

    The table is below the middle third of the slice, where the patient is widest.
    """
    columns = np.flatnonzero((image[:, image.shape[1] // 2] > 0.1).any(axis=1))
    rows = np.flatnonzero((image[image.shape[0] // 2, 6:] > 0.1).any(axis=1)) + 6
    return np.array([columns[[0, -1]].mean(), rows[[0, -1]].mean()])
