"""NIfTI files for tests: any header field as wanted, and the packaged anatomy cut small."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import crossmod
from crossmod import DataError
from crossmod.intake import Intake, Loaded, Survey, load_scan
from crossmod.recipe.load import load_all
from crossmod.run.data import check_data, survey_data

SHAPE = (8, 7, 6)
AFFINE = np.array([[-1.0, 0, 0, 5], [0, 2, 0, -3], [0, 0, 1.5, 1], [0, 0, 0, 1]])
LABELS = np.zeros(SHAPE, "u1")
LABELS[1:4, 1:6, 1:5], LABELS[5:7, 1:6, 1:5] = 1, 2  # a tumor and a cochlea
SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
SOURCE = "crossmoda2022_training/training_source"
TARGET = "crossmoda2022_training/training_target"
HELD_OUT = "crossmoda2022_validation/validation"
ANATOMY = Path(crossmod.__file__).parent / "anatomy" / "icbm2009c_posterior_fossa_t1.nii.gz"


def some_data(shape: tuple[int, ...] = SHAPE, kind: str = "i2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(kind)


def content(
    data: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    *,
    version: int = 1,
    order: str = "<",
    **fields: Any,
) -> bytes:
    """The bytes of an uncompressed file; fields of the header are set as they are."""
    data = some_data() if data is None else data
    kind = (nibabel.Nifti1Image, nibabel.Nifti2Image)[version - 1]
    image = kind(data, affine, dtype=data.dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    header = image.header.as_byteswapped(order).structarr.copy()
    header["vox_offset"] = header.dtype.itemsize + 4
    for name, value in fields.items():
        header[name] = value
    voxels = data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(header.tobytes() + bytes(4) + voxels)


def write(path: Path, plain: bytes | None = None, **options: Any) -> Path:
    """Write a file, compressed if its name says so."""
    plain = content(**options) if plain is None else plain
    path.write_bytes(gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)
    return path


@cache
def anatomy(size: int = 32) -> bytes:
    """A cube of real anatomy, uncompressed."""
    image = nibabel.load(ANATOMY)
    at = [(n - size) // 2 for n in image.shape]
    part = image.slicer[tuple(slice(a, a + size) for a in at)]
    return content(np.asarray(part.dataobj), part.affine)


def small_cohort(root: Path) -> Path:
    """Two small scans of each split in CrossMoDA's layout; target scans have no label maps."""
    for folder in (SOURCE, TARGET, HELD_OUT, "hidden"):
        (root / folder).mkdir(parents=True)
    for number, case in enumerate(("crossmoda2021_ldn_", "crossmoda2022_etz_")):
        scans = {f"{SOURCE}/{case}1_ceT1": 0, f"{TARGET}/{case}2_hrT2": 10}
        for name, more in {**scans, f"{HELD_OUT}/{case}3_hrT2": 20}.items():
            write(root / f"{name}.nii.gz", data=some_data() + more + number)
        for path in (f"{SOURCE}/{case}1_Label.nii.gz", f"hidden/{case}3_Label.nii.gz"):
            write(root / path, data=LABELS)
    return root


def survey_of(root: Path, *more: str) -> Survey:
    """What a survey with the smoke recipe and settings finds."""
    recipe = load_all(SMOKE, more)[0].recipe
    return survey_data(recipe, root, check_data(recipe, root, allow_outside=True))


def refused(path: Path, *words: str, options: Intake | None = None) -> str:
    """Loading fails and names the file and these words; returns the message."""
    with pytest.raises(DataError) as caught:
        load_scan(path, options or Intake())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message
    return message


def same(one: Loaded, other: Loaded) -> bool:
    """Whether voxels and geometry are the same bits."""
    return np.array_equal(one.data, other.data) and np.array_equal(one.affine, other.affine)
