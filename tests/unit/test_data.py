from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmod import Case, Cohort, DataError, PluginError, Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.data.nifti import read_grid, read_image, write_nifti


def cohort_of(patients: list[str]) -> Cohort:
    cases = tuple(
        Case(f"{patient}+{number}" if number else patient, patient, "ldn", Path(f"{number}.nii"))
        for number, patient in enumerate(patients)
    )
    return Cohort(cases, {"tumor": 1})


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=10, max_size=40),
    st.integers(2, 5),
    st.integers(0, 5),
)
def test_folds_never_separate_the_copies_of_a_patient(
    patients: list[str], count: int, seed: int
) -> None:
    cohort = cohort_of([*"abcdefghij", *patients])
    folds = cohort.folds(count, seed)
    for train, validation in folds:
        assert not {c.patient for c in train.cases} & {c.patient for c in validation.cases}
        assert len(train) + len(validation) == len(cohort)
    validated = [case.patient for _, validation in folds for case in validation.cases]
    assert sorted(validated) == sorted(case.patient for case in cohort.cases)


PATIENTS = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=4),
    st.tuples(st.sampled_from(["ldn", "etz", "ukm"]), st.integers(0, 1), st.integers(1, 3)),
    min_size=5,
    max_size=60,
)
"""Patient -> center, origin, number of copies."""


@given(PATIENTS, st.integers(2, 5), st.integers(0, 5))
def test_every_fold_holds_a_share_of_every_center_and_origin(
    patients: dict[str, tuple[str, int, int]], count: int, seed: int
) -> None:
    cohort = Cohort(
        tuple(
            Case(f"{name}+{copy}", name, center, Path("a.nii"))
            for name, (center, _, copies) in patients.items()
            for copy in range(copies)
        ),
        {"tumor": 1},
    )
    origins = {name: origin for name, (_, origin, _) in patients.items()}
    folds = cohort.folds(count, seed, origins)
    for stratum in {row[:2] for row in patients.values()}:
        shares = [
            len({c.patient for c in validation.cases if patients[c.patient][:2] == stratum})
            for _, validation in folds
        ]
        assert max(shares) - min(shares) <= 1
    sizes = [len({case.patient for case in validation.cases}) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    source = cohort.only(lambda case: origins[case.patient] == 0)
    if len({case.patient for case in source.cases}) >= count:
        alone = [fold.cases for _, fold in source.folds(count, seed, origins)]
        again = [fold.only(lambda c: origins[c.patient] == 0).cases for _, fold in folds]
        assert again == alone


def test_one_fold_trains_on_everything() -> None:
    cohort = cohort_of(list("abc"))
    [(train, validation)] = cohort.folds(1, seed=0)
    assert (len(train), len(validation)) == (3, 0)


def test_more_folds_than_patients_is_refused() -> None:
    with pytest.raises(DataError, match="2 patients cannot be split into 5 folds"):
        cohort_of(["a", "b"]).folds(5, seed=0)


def test_a_cohort_survives_its_folder_being_moved(tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    image = np.random.default_rng(0).random((1, 4, 5, 6), dtype=np.float32)
    labels = (image[0] > 0.5).astype(np.uint8)
    writer = CohortWriter(tmp_path / "first", {"tumor": 1})
    writer.add(Volume.of(image, affine, case="a", center="ldn"), patient="p", labels=labels)
    writer.add(Volume.of(image * 0, affine, case="b", center="etz"))
    writer.close()
    (tmp_path / "first").rename(tmp_path / "second")

    cohort = Cohort.load(tmp_path / "second")
    pair = cohort.cases[0].pair()
    assert (pair.patient, pair.center) == ("p", "ldn")
    np.testing.assert_array_equal(pair.image.data, image)
    np.testing.assert_array_equal(pair.labels, labels)
    assert pair.image.spacing_mm == (0.5, 0.5, 2.0)
    with pytest.raises(DataError, match="has no label map"):
        cohort.cases[1].pair()


def test_a_copy_keeps_patient_labels_and_geometry(tmp_path: Path) -> None:
    affine = np.eye(4)
    writer = CohortWriter(tmp_path, {"tumor": 1})
    image = np.zeros((1, 3, 3, 3), np.float32)
    writer.add(Volume.of(image, affine, case="a"), labels=np.ones((3, 3, 3), np.uint8))
    pair = writer.close().cases[0].pair().copy_as("small-x0.6", image + 1)
    assert (pair.case, pair.patient) == ("a+small-x0.6", "a")
    assert pair.image.data.max() == 1
    assert pair.labels.all()


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((3, 3, 3), np.eye(4)),
        ((1, 1, 3, 3, 3), np.eye(4)),
        ((1, 3, 3, 3), np.eye(3)),
        ((1, 3, 3, 3), [1.0, 1.0, 1.0]),
    ],
)
def test_a_volume_of_another_shape_is_refused(shape: tuple[int, ...], affine: Any) -> None:
    with pytest.raises(PluginError, match="a has data of shape") as caught:
        Volume.of(np.zeros(shape, np.float32), affine, case="a")
    assert caught.value.allowed.startswith("data (C, I, J, K)")


def test_other_data_of_a_volume_has_channels_too() -> None:
    volume = Volume.of(np.zeros((1, 3, 3, 3), np.float32), np.eye(4).tolist(), case="a", center="c")
    assert volume.spacing_mm == (1.0, 1.0, 1.0)
    changed = volume.with_data(volume.data + 1)
    assert (changed.case, changed.center, changed.data.min()) == ("a", "c", 1)
    with pytest.raises(PluginError, match=r"a has data of shape \(3, 3, 3\)"):
        volume.with_data(volume.data[0])


@pytest.mark.parametrize("shape", [(40_000, 2, 2), (2, 32_768, 1), (32_767, 1, 1)])
def test_a_side_of_any_length_can_be_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    affine = np.diag([0.1, 1.0, 1.0, 1.0])
    data = np.random.default_rng(0).random(shape, dtype=np.float32)
    write_nifti(tmp_path / "a.nii", data, affine)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii")[0], data)
    assert read_grid(tmp_path / "a.nii")[0] == shape
