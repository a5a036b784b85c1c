"""Scans on their way to a model and behind it: read ahead, written behind, taken as they come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from crossmod import DataError, PluginError
from crossmod.data.grids import Preprocess
from crossmod.intake import Intake, ScanFile
from crossmod.model import watch
from crossmod.model.behind import Behind
from crossmod.model.queue import Listed, Queue
from crossmod.model.watch import LOOK_S, SETTLED_S, Arrivals

SPACING = Preprocess(spacing_mm=(2.0, 2.0, 2.0))


def a_scan(folder: Path, case: str, level: float = 100.0) -> ScanFile:
    data = np.zeros((6, 7, 5), np.float32)
    data[2:4, 2:4, 2:4] = level, level / 2
    data[0, 0, 0] = level / 4
    path = folder / f"{case}.nii.gz"
    path.parent.mkdir(exist_ok=True, parents=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return ScanFile(case, path)


# One behind.


def test_work_is_done_one_behind_and_in_order() -> None:
    going, done = threading.Event(), []

    def work(item: int) -> None:
        assert going.wait(10)
        done.append(item)

    with Behind(work) as behind:
        behind(0)
        assert done == []  # the caller has gone ahead
        going.set()
        for item in range(1, 5):
            behind(item)
            assert done == list(range(item))
    assert done == list(range(5))


def test_what_the_work_raises_ends_the_block_and_nothing_more_is_done() -> None:
    done = []

    def work(item: int) -> None:
        done.append(item)
        if item == 1:
            raise DataError("disk full")

    def give(*items: int) -> None:
        with Behind(work) as behind:
            for item in items:
                behind(item)

    with pytest.raises(DataError, match="disk full"):
        give(0, 1, 2, 3)
    assert done == [0, 1]
    with pytest.raises(DataError, match="disk full"):
        give(1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupted_block_finishes_what_was_begun(error: type[BaseException]) -> None:
    begun, going, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        assert going.wait(10)
        done.append(item)

    def interrupted() -> None:
        with Behind(work) as behind:
            behind(0)
            assert begun.wait(10)
            going.set()
            raise error

    with pytest.raises(error):
        interrupted()
    assert done == [0]


# One ahead.


class Counting(Listed):
    """Notes which scans were taken."""

    def __init__(self, scans: list[ScanFile]) -> None:
        super().__init__(scans)
        self.taken: list[str] = []

    def next(self, *, wait: bool) -> ScanFile | None:
        scan = super().next(wait=wait)
        self.taken += [scan.case] if scan else []
        return scan


def a_queue(scans: list[ScanFile]) -> tuple[Queue, Counting]:
    source = Counting(scans)
    return Queue(source, Intake(), SPACING), source


def test_one_scan_is_read_ahead_and_no_more(tmp_path: Path) -> None:
    queue, source = a_queue([a_scan(tmp_path, case) for case in "abcd"])
    with queue:
        assert source.taken == ["a"]  # before anybody asks
        for number, volume in enumerate(queue.volumes(), start=1):
            assert source.taken == list("abcd")[: number + 1]
            assert queue.done().scan.case == volume.case
        assert queue.ended


def test_scans_behind_a_failure_keep_their_order(tmp_path: Path) -> None:
    queue, _ = a_queue([a_scan(tmp_path, case) for case in "abcdef"])
    seen: list[str] = []
    with queue:
        volumes = queue.volumes()
        for _ in "abc":
            next(volumes)
        queue.give_up(PluginError("a was too much"))  # b, c are under way, d is read ahead
        volumes = queue.volumes()
        next(volumes)
        next(volumes)
        queue.give_up(PluginError("b was too much"))
        for volume in queue.volumes():
            seen.append(volume.case)
            queue.done()
        assert [failed.scan.case for failed in queue.take_failed()] == ["a", "b"]
    assert seen == list("cdef")


def test_nothing_is_waited_for_while_results_are_to_come(tmp_path: Path) -> None:
    class Later(Listed):
        """Would wait for ever."""

        ended = False

        def next(self, *, wait: bool) -> ScanFile | None:
            scan = super().next(wait=wait)
            assert scan or not wait
            return scan

    queue = Queue(Later([a_scan(tmp_path, "a")]), Intake(), SPACING)
    with queue:
        assert [volume.case for volume in queue.volumes()] == ["a"]
        queue.done()
        with pytest.raises(AssertionError):  # now it waits
            list(queue.volumes())
        assert not queue.ended
    (tmp_path / "broken.nii.gz").write_bytes(b"x")
    broken = ScanFile("broken", tmp_path / "broken.nii.gz")
    with Queue(Later([broken]), Intake(), SPACING) as queue:
        assert list(queue.volumes()) == []  # so that the failure is told at once
        assert [failed.scan.case for failed in queue.take_failed()] == ["broken"]


# As they come.


class Clock:
    """A time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.later: list[Any] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.later:
            self.later.pop(0)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch, "time", made)
    return made


class Watched:
    """A folder, and what is said of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.told: list[str] = []
        self.outlined: set[str] = set()
        wants = settings.pop("wants", lambda scan, again: again or scan.case not in self.outlined)
        settings = {"ending": "", "series": "", "check": lambda: None, **settings}
        self.arrivals = Arrivals([folder], wants=wants, tell=self.told.append, **settings)

    def settled(self, clock: Clock) -> list[str]:
        """The cases that are complete once nothing has changed for a while."""
        found = []
        for _ in range(int(SETTLED_S / LOOK_S) + 2):
            while scan := self.arrivals.next(wait=False):
                found.append(scan.case)
            clock.sleep(LOOK_S)
        return found


def test_scans_are_taken_once_they_have_settled(tmp_path: Path, clock: Clock) -> None:
    here = Watched(tmp_path / "in")
    assert here.settled(clock) == []
    scan = a_scan(here.folder, "b")
    a_scan(here.folder, "a")
    assert here.arrivals.next(wait=False) is None
    content = scan.path.read_bytes()
    for size in (100, 200, 300):
        scan.path.write_bytes(content[:size])
        clock.sleep(SETTLED_S - LOOK_S)
        found = here.arrivals.next(wait=False)
        assert found is None or found.case == "a"
    scan.path.write_bytes(content)
    assert here.settled(clock) == ["b"]
    assert here.settled(clock) == []
    assert here.told == []


def test_a_scan_that_changes_is_taken_again(tmp_path: Path, clock: Clock) -> None:
    here = Watched(tmp_path / "in")
    here.outlined = {"a"}
    scan = a_scan(here.folder, "a")
    assert here.settled(clock) == []  # outlined before
    scan.path.write_bytes(scan.path.read_bytes() + b"more")
    assert here.settled(clock) == ["a"]
    scan.path.unlink()
    assert here.settled(clock) == []


def test_waiting_ends_with_a_scan_or_a_fault_behind(tmp_path: Path, clock: Clock) -> None:
    faults: list[DataError] = []

    def check() -> None:
        if faults:
            raise faults[0]

    here = Watched(tmp_path / "in", check=check)
    clock.later = [lambda: None, lambda: a_scan(here.folder, "a")]
    scan = here.arrivals.next(wait=True)
    assert scan is not None
    assert (scan.case, scan.found) == ("a", True)
    assert SETTLED_S <= clock.now - 100 <= SETTLED_S + 5 * LOOK_S
    clock.later = [lambda: faults.append(DataError("disk full"))]
    with pytest.raises(DataError, match="disk full"):
        here.arrivals.next(wait=True)


def test_folders_name_the_cases_in_them(tmp_path: Path, clock: Clock) -> None:
    here = Watched(tmp_path / "in", ending="_T2")
    a_scan(here.folder / "p1", "scan_T2")
    a_scan(here.folder / "p1", "scan_T1")
    a_scan(here.folder / "p2" / "day", "x_T2")
    (here.folder / "p3").mkdir()
    (here.folder / "p3" / "report.txt").write_text("fine", encoding="utf-8")
    a_scan(here.folder, "p4_T2")
    a_scan(here.folder, "p4_T1")
    a_scan(here.folder, ".p5_T2")
    (here.folder / "p6_T2.nii.gz.part").write_bytes(b"half")
    assert here.settled(clock) == ["p1", "p2", "p4"]
    assert here.told == []


def test_what_is_wrong_is_told_once(tmp_path: Path, clock: Clock) -> None:
    def wants(scan: ScanFile, again: bool) -> bool:
        if scan.case == "taken":
            raise DataError("is not its own", where="taken.nii.gz")
        return True

    here = Watched(tmp_path / "in", wants=wants)
    a_scan(here.folder, "twice")
    a_scan(here.folder, "twice").path.rename(here.folder / "twice.nii")
    a_scan(here.folder, "twice")
    a_scan(here.folder, "taken")
    for name in "ab":
        a_scan(here.folder / "p1", name)
    assert here.settled(clock) == ["twice"]
    assert here.settled(clock) == []
    assert len(here.told) == 3
    for part in ("holds 2 scans: a.nii.gz, b.nii.gz", "is not its own", "is already used by"):
        assert sum(part in line for line in here.told) == 1
    assert all(line.startswith("note: ") and line.endswith("; skipped") for line in here.told)


def test_a_folder_that_goes_away_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    here = Watched(tmp_path / "in")
    here.folder.rename(tmp_path / "away")
    assert here.settled(clock) == []
    assert here.told == [f"warning: {here.folder}: No such file or directory; waiting for it"]
    (tmp_path / "away").rename(here.folder)
    a_scan(here.folder, "a")
    assert here.settled(clock) == ["a"]
    assert len(here.told) == 1


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before
