"""Tumors of one voxel, at the edge of a scan, and larger than a patch pass through every stage."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scenes import centered, scene, write
from tiny import Tiny

SHAPE, SPACING = (40, 32, 20), (3.0, 3.0, 3.0)
PATCH = (24, 24, 16)
TUMORS = {
    "crossmoda2021_ldn_1": (slice(20, 21), slice(16, 17), slice(10, 11)),  # one voxel
    "crossmoda2022_etz_1": (slice(0, 3), slice(28, 32), slice(17, 20)),  # in a corner of the scan
    "crossmoda2021_ldn_2": (slice(4, 36), slice(2, 30), slice(1, 19)),  # larger than the patch
}
SOURCE = Path("crossmoda2022_training", "training_source")
TARGET = Path("crossmoda2022_training", "training_target")
HELD_OUT = Path("crossmoda2022_validation", "validation")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Each tumor once in the source and once in the scans that are scored."""
    root, affine = tmp_path / "data", centered(SPACING, SHAPE)
    rng = np.random.default_rng(0)
    for number, (case, box) in enumerate(TUMORS.items()):
        labels = np.zeros(SHAPE, np.uint8)
        labels[box] = 1
        head = scene(affine, SHAPE) + rng.integers(0, 40, SHAPE, dtype=np.int16)
        shown = head + 600 * labels.astype(np.int16)
        write(root / SOURCE / f"{case}_ceT1.nii.gz", shown, affine)
        write(root / SOURCE / f"{case}_Label.nii.gz", labels, affine)
        write(root / TARGET / f"{case[:-1]}{number + 4}_hrT2.nii.gz", 2000 - head, affine)
        write(root / HELD_OUT / f"{case[:-1]}{number + 7}_hrT2.nii.gz", 2500 - shown, affine)
        write(root / "hidden" / f"{case[:-1]}{number + 7}_Label.nii.gz", labels, affine)
    return root


def test_p07_tumors_at_the_edge_of_what_can_be(tiny: Tiny, data: Path) -> None:
    assert all(side.stop - side.start >= n for side, n in
               zip(TUMORS["crossmoda2021_ldn_2"], PATCH, strict=True))  # fmt: skip
    tiny.go("--data", data, "--set", "data.classes.cochlea=false")
    found = {
        path.stem: np.count_nonzero(np.asarray(nibabel.load(path).dataobj) == 1)
        for path in tiny.store.glob("??/*/labels/*.nii")
    }
    for case, box in TUMORS.items():
        voxels = np.prod([side.stop - side.start for side in box])
        assert found[case] == voxels
        copies = [count for name, count in found.items() if name.startswith(f"{case}+")]
        assert copies == [voxels] * 3  # for three wanted intensities
    rows = [row for row in tiny.result.scores() if row["class"] == "tumor"]
    scored = {row["case"] for row in rows}
    assert scored == {"crossmoda2021_ldn_7", "crossmoda2022_etz_8", "crossmoda2021_ldn_9"}
    assert all(np.isfinite(float(row["dice"])) for row in rows)
