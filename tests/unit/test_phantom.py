"""The embedded cohort: layout, determinism, and the anatomy and contrast it promises."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from processor import rounding
from scipy.ndimage import label as connected_parts

from crossmod.errors import DataError
from crossmod.phantom import write_cohort

SOURCE = "crossmoda2022_training/training_source"
TARGET = "crossmoda2022_training/training_target"
VALIDATION = "crossmoda2022_validation/validation"


@dataclass(frozen=True)
class Scan:
    """An image and its labels, both in RAS+ voxel order."""

    image: NDArray[np.float64]
    labels: NDArray[np.uint8]
    spacing_mm: NDArray[np.float64]

    @property
    def brainstem(self) -> float:
        """Mean of a 6 mm cube in the pons, found from the middle between the cochleae."""
        between_ears = np.argwhere(self.labels == 2).mean(axis=0)
        middle = np.rint(between_ears + np.array([0, -10, 5]) / self.spacing_mm).astype(int)
        half = np.rint(3 / self.spacing_mm).astype(int)
        cube = tuple(slice(m - h, m + h + 1) for m, h in zip(middle, half, strict=True))
        return float(self.image[cube].mean())

    @property
    def tumor(self) -> float:
        return float(np.median(self.image[self.labels == 1]))

    def volume_mm3(self, value: int) -> float:
        return float((self.labels == value).sum() * self.spacing_mm.prod())


def read(folder: Path, image: str, labels: str) -> list[Scan]:
    scans = []
    for path in sorted((folder / image).glob("*_[ch][er]T[12].nii.gz")):
        case = path.name.rsplit("_", 1)[0]
        pair = nibabel.load(path), nibabel.load(folder / labels / f"{case}_Label.nii.gz")
        np.testing.assert_array_equal(pair[0].affine, pair[1].affine)
        assert pair[0].shape == pair[1].shape
        upright, marked = map(nibabel.as_closest_canonical, pair)
        spacing_mm = np.array(upright.header.get_zooms(), dtype=float)
        scans.append(Scan(upright.get_fdata(), np.asarray(marked.dataobj), spacing_mm))
    return scans


def digests(folder: Path, pattern: str) -> list[str]:
    """Of every file, London before Tilburg, in the order of case numbers."""
    files = sorted(folder.glob(pattern), key=lambda f: ("etz" in f.name, len(f.name), f.name))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, source=4, target=12, validation=2, seed=7, workers=1)
    return folder


@pytest.fixture(scope="module")
def source(cohort: Path) -> list[Scan]:
    return read(cohort, SOURCE, SOURCE)


@pytest.fixture(scope="module")
def target(cohort: Path) -> list[Scan]:
    return read(cohort, TARGET, "hidden")


def test_layout_is_that_of_crossmoda_2022(cohort: Path) -> None:
    def names(folder: str) -> set[str]:
        return {file.name for file in (cohort / folder).iterdir()}

    def cases(split: dict[str, range], suffix: str) -> set[str]:
        return {f"{p}_{i}_{suffix}.nii.gz" for p, numbers in split.items() for i in numbers}

    london, tilburg = "crossmoda2021_ldn", "crossmoda2022_etz"
    source = {london: range(1, 3), tilburg: range(2)}
    target = {london: range(3, 9), tilburg: range(2, 8)}
    validation = {london: range(9, 10), tilburg: range(8, 9)}
    assert names(SOURCE) == cases(source, "ceT1") | cases(source, "Label")
    assert names(TARGET) == cases(target, "hrT2")
    assert names(VALIDATION) == cases(validation, "hrT2")
    assert names("hidden") == cases(target, "Label") | cases(validation, "Label")
    assert "McConnell" in (cohort / "COPYING").read_text()
    assert "not generalization" in (cohort / "README.txt").read_text().replace("\n", " ")


def test_case_table_names_center_and_koos_grade(cohort: Path) -> None:
    table = cohort / "crossmoda2022_training" / "infos_source_training.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["crossmoda_name", "group", "center", "koos"]
    assert {(r["crossmoda_name"], r["center"]) for r in rows} == {
        ("crossmoda2021_ldn_1", "London"),
        ("crossmoda2021_ldn_2", "London"),
        ("crossmoda2022_etz_0", "Tilburg"),
        ("crossmoda2022_etz_1", "Tilburg"),
    }
    assert all(row["koos"] in "1234" for row in rows)


def test_a_case_depends_on_nothing_but_seed_split_and_number(cohort: Path, tmp_path: Path) -> None:
    counted: list[int] = []

    def progress(cases: Iterable[int], total: int) -> Iterable[int]:
        for case in cases:
            counted.append(total)
            yield case

    write_cohort(tmp_path, source=2, target=2, validation=2, seed=7, workers=2, progress=progress)
    assert counted == [6] * 6
    for pattern in (f"{SOURCE}/*ceT1*", f"{SOURCE}/*Label*", f"{TARGET}/*"):
        few, many = digests(tmp_path, pattern), digests(cohort, pattern)
        assert few == [many[0], many[len(many) // 2]]
    assert digests(tmp_path, f"{VALIDATION}/*") == digests(cohort, f"{VALIDATION}/*")


def test_another_seed_is_another_cohort(cohort: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, source=1, target=0, validation=0, seed=8, workers=1)
    for kind in ("ceT1", "Label"):
        name = f"{SOURCE}/crossmoda2021_ldn_1_{kind}.nii.gz"
        assert (tmp_path / name).read_bytes() != (cohort / name).read_bytes()


def test_cases_of_another_cohort_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "crossmoda2021_ldn_9_Label.nii.gz").touch()
    with pytest.raises(DataError, match="ldn_9"):
        write_cohort(tmp_path, source=1, target=0, validation=0, seed=1, workers=1)


def test_labels_hold_a_tumor_and_two_cochleae(source: list[Scan], target: list[Scan]) -> None:
    for scan in source + target:
        assert scan.labels.dtype == np.uint8
        assert set(np.unique(scan.labels)) == {0, 1, 2}
        assert connected_parts(scan.labels == 2)[1] == 2
        left, right = np.argwhere(scan.labels == 2)[[0, -1], 0] * scan.spacing_mm[0]
        assert 60 < right - left < 95
        assert 80 < scan.volume_mm3(2) < 280
        assert 100 < scan.volume_mm3(1) < 7500


def test_no_label_is_cut_by_the_field_of_view(source: list[Scan], target: list[Scan]) -> None:
    for scan in source + target:
        index = np.argwhere(scan.labels > 0)
        assert (index.min(axis=0) > 0).all()
        assert (index.max(axis=0) < np.array(scan.labels.shape) - 1).all()


def test_centers_differ_in_grid_and_axes(cohort: Path) -> None:
    london = nibabel.load(cohort / SOURCE / "crossmoda2021_ldn_1_ceT1.nii.gz")
    tilburg = nibabel.load(cohort / SOURCE / "crossmoda2022_etz_1_ceT1.nii.gz")
    np.testing.assert_allclose(london.header.get_zooms(), (0.9, 0.9, 1.5), rtol=rounding(8))
    np.testing.assert_allclose(tilburg.header.get_zooms(), (1.1, 1.1, 1.5), rtol=rounding(8))
    assert nibabel.aff2axcodes(london.affine) == ("R", "A", "S")
    assert nibabel.aff2axcodes(tilburg.affine) == ("L", "P", "S")


def test_some_cases_are_oblique(cohort: Path) -> None:
    tilts = [
        np.abs(image.affine[:3, :3] / image.header.get_zooms()).max(axis=0).min()
        for image in map(nibabel.load, sorted((cohort / TARGET).iterdir()))
    ]
    assert min(tilts) < 0.9999 < max(tilts)


def test_tumors_enhance_on_t1(source: list[Scan]) -> None:
    assert all(scan.tumor > 1.05 * scan.brainstem for scan in source)


def test_tumors_span_dark_to_bright_on_t2(target: list[Scan]) -> None:
    ratios = [scan.tumor / scan.brainstem for scan in target]
    assert min(ratios) < 0.85
    assert max(ratios) > 1.3


def test_cochleae_outshine_the_brainstem_on_t2_only(source: list[Scan], target: list[Scan]) -> None:
    assert all(scan.image[scan.labels == 2].mean() > 1.3 * scan.brainstem for scan in target)
    assert all(scan.image[scan.labels == 2].mean() < 0.85 * scan.brainstem for scan in source)


def test_air_is_near_zero_with_a_noise_floor(source: list[Scan], target: list[Scan]) -> None:
    for scan in source + target:
        corner = scan.image[:12, -12:]
        assert 0 < corner.mean() < 0.2 * scan.brainstem
        assert corner.std() > 0
