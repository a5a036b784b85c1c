"""Work side by side: the same results and errors in the same order, and an end to it in time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from nifti_files import LABELS, SMOKE, SOURCE, small_cohort, some_data, survey_of, write

from crossmod import DataError
from crossmod.errors import Interrupted
from crossmod.lanes import MOST, lanes
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.run.steps import Prepare
from crossmod.stages.context import Context, Progress, silent_progress
from crossmod.store.store import Store

CASES = 8
COUNTS = (1, 2, 3, 40)


@pytest.mark.parametrize("count", COUNTS)
def test_results_come_in_order_and_no_more_at_once_than_lanes(count: int) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01 if number % 3 else 0.03)  # later ones overtake
        with lock:
            now -= 1
        return -number

    with lanes(count) as side_by_side:
        assert list(side_by_side(work, range(20))) == [-number for number in range(20)]
    assert min(count, 2) <= most <= min(count, MOST)


@pytest.mark.parametrize("count", COUNTS)
def test_the_first_error_by_order_is_raised(count: int) -> None:
    def work(number: int) -> int:
        if number == 2:
            time.sleep(0.05)  # the fourth fails before the third
        if number in (2, 3):
            raise ValueError(str(number))
        return number

    seen = []
    with pytest.raises(ValueError, match="2"), lanes(count) as side_by_side:  # noqa: PT012
        for number in side_by_side(work, range(5)):
            seen.append(number)
    assert seen == [0, 1]


@pytest.mark.parametrize("count", COUNTS)
def test_nothing_begins_once_the_block_has_ended(count: int) -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), lanes(count) as side_by_side:  # noqa: PT012
        for _ in side_by_side(work, range(1000)):
            raise KeyboardInterrupt
    at_end = len(begun)
    time.sleep(0.05)
    assert len(begun) == at_end < 1000


@pytest.fixture
def step(tmp_path: Path) -> Prepare:
    root = small_cohort(tmp_path / "data")
    for number in range(CASES - 2):
        case = f"{SOURCE}/crossmoda2021_ldn_1{number}"
        write(root / f"{case}_ceT1.nii.gz", data=some_data() + 40 + number)
        write(root / f"{case}_Label.nii.gz", data=LABELS)
    found = Planner(load_all(SMOKE)[0], root, survey_of(root).digests).plan().source
    assert isinstance(found, Prepare)
    return found


def made(
    step: Prepare, folder: Path, count: int, progress: Progress = silent_progress
) -> dict[str, bytes]:
    """The files that preparing with so many cores writes."""
    folder.mkdir()
    step.make(
        Store(folder.parent / "store"), Context(folder, cores=lambda: count, progress=progress)
    )
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.*"))
        if path.is_file()
    }


def test_prepared_scans_are_the_same_on_any_number_of_cores(step: Prepare, tmp_path: Path) -> None:
    alone = made(step, tmp_path / "alone", 1)
    assert len(alone) == 2 * CASES + 2
    for count in (2, 5):
        assert made(step, tmp_path / str(count), count) == alone


@pytest.mark.parametrize("count", COUNTS)
def test_of_two_changed_scans_the_first_is_named(step: Prepare, tmp_path: Path, count: int) -> None:
    names = [f"crossmoda2021_ldn_1{number}_ceT1.nii.gz" for number in (1, 4)]
    for name in names:
        write(tmp_path / "data" / SOURCE / name, data=some_data() + 99)
    with pytest.raises(DataError, match=names[0]):
        made(step, tmp_path / "made", count)
    assert not (tmp_path / "made" / "cohort.json").exists()


@pytest.mark.parametrize("count", COUNTS)
def test_preparing_stops_between_scans_and_says_at_which(
    step: Prepare, tmp_path: Path, count: int
) -> None:
    """Nothing is written afterwards: the folder may be gone by then."""
    at: list[str] = []

    def progress(items, *, total=None, label=""):
        for number, item in enumerate(items):
            if number == 2:
                raise Interrupted("stopped")
            at.append(item.case)
            yield item

    with pytest.raises(Interrupted):
        made(step, tmp_path / "made", count, progress)
    written = sorted((tmp_path / "made").rglob("*.nii"))
    assert at == [scan.case for scan in step.scans(Store(tmp_path / "store"))][:2]
    time.sleep(0.1)
    assert sorted((tmp_path / "made").rglob("*.nii")) == written
