"""How cost grows with the number of scans and of stored results: lines executed, files opened.

A count is the same on every machine, so growth is seen at small sizes: of two doublings, the second
adds twice as much if the cost is linear, and four times as much if it is quadratic.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import forked
import pytest
from crossmod_here import Here
from program import ROOT

from crossmod.data.folder import find_scans
from crossmod.errors import DataError
from crossmod.files.outputs import Outputs
from crossmod.files.patterns import references_of, refuse_links
from crossmod.run import api, known
from crossmod.run.check import check
from crossmod.run.run import Run
from crossmod.run.schedule import Scheduler
from crossmod.stages import code, entry_points, find
from crossmod.store.collect import Collector, Contents
from crossmod.store.runs import known_runs

SIZES = (20, 40, 80)

SLACK = 2.4
"""A second doubling may add this many times what the first adds."""

CASES_S, STORE_S, REPORT_MB = 10.0, 5.0, 10.0
"""What a thousand scans and ten thousand results may take; processor seconds."""


def script() -> Any:
    """The script whose tables are in scale.md; it writes scans, plugins and stores."""
    file = ROOT / "docs" / "explanation" / "measure_scale.py"
    spec = importlib.util.spec_from_file_location("measure_scale", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_scale"] = module
    spec.loader.exec_module(module)
    return module


MEASURE = script()


class Silent:
    """Watches without a word."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *about: None


class Study:
    """A recipe with a data folder of some scans."""

    def __init__(self, folder: Path, cases: int) -> None:
        self.data, self.recipe, self.out = folder / "data", folder / "many.toml", folder / "runs"
        MEASURE.write_scans(self.data, cases)
        self.recipe.write_text(MEASURE.RECIPE, encoding="utf-8")

    def plan(self) -> api.Experiment:
        return api.plan(self.recipe, self.data, out=self.out / "many")

    def run(self) -> None:
        """Make or find all steps; the report is not written."""
        experiment = self.plan()
        [plan] = experiment.plans
        run = Run(plan, experiment.store, experiment.outputs, experiment.machine())
        experiment.outputs.claim()
        run.claim()
        Scheduler([run], Here(None, run.store, run.machine), Silent()).execute()


def look_again() -> None:
    """Let plugins be found that were not there when others were looked for."""
    for cached in (entry_points.offers, find.load, code._owners):
        cached.cache_clear()


def run_all(studies: list[Study]) -> None:
    os.fsync, known.SETTLED_S = lambda handle: None, -1000.0  # in a process of its own
    for study in studies:
        study.run()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Study]]:
    """Studies of growing size, run to the end by a process whose settings of torch are its own."""
    folder = tmp_path_factory.mktemp("scale")
    with pytest.MonkeyPatch.context() as patch:
        MEASURE.write_plugins(folder / "site")
        patch.syspath_prepend(folder / "site")
        look_again()
        patch.setattr(known, "SETTLED_S", -1000.0)  # these files are new, and stay as they are
        patch.delenv("CROSSMOD_DATA", raising=False)
        made = [Study(folder / str(cases), cases) for cases in SIZES]
        work = forked.CONTEXT.Process(target=run_all, args=(made,))
        work.start()
        work.join()
        assert work.exitcode == 0
        yield made
    look_again()


def lines_of(action: Callable[[], object]) -> int:
    """How many lines of Python an action executes, each round of a comprehension included."""
    total, before = count(), sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        next(total)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
        threading.settrace(None)  # type: ignore[arg-type]
    return next(total)


def assert_linear(actions: list[Callable[[], object]], *, again: bool = True) -> None:
    """Assert that actions on sizes that double execute lines in proportion.

    Args:
        actions: one for each size.
        again: whether the first may be done twice, so that imports count for none.
    """
    if again:
        actions[0]()
    first, second, third = map(lines_of, actions)
    assert third - second < SLACK * (second - first), (first, second, third)


OPENED: list[str] = []
LISTENING = threading.Event()


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    if LISTENING.is_set() and event in ("open", "os.listdir", "os.scandir"):
        OPENED.append(os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "")


sys.addaudithook(hear)


@contextmanager
def opened() -> Iterator[list[str]]:
    """The files and folders that are opened in the block."""
    OPENED.clear()
    LISTENING.set()
    try:
        yield OPENED
    finally:
        LISTENING.clear()


def test_planning_grows_with_the_scans(studies: list[Study]) -> None:
    assert_linear([study.plan for study in studies])


def test_checking_grows_with_the_scans(studies: list[Study]) -> None:
    assert_linear([lambda study=study: check(study.recipe, study.data) for study in studies])


def test_a_run_that_finds_everything_grows_with_the_scans(studies: list[Study]) -> None:
    assert_linear([study.run for study in studies])


def test_a_run_that_finds_everything_opens_no_scan_and_few_manifests(studies: list[Study]) -> None:
    with opened() as files:
        studies[0].run()
    assert [one for one in files if one.endswith(".nii.gz")] == []
    manifests = Counter(one for one in files if "store" in one and one.endswith("manifest.json"))
    assert max(manifests.values()) <= 3


def test_a_plan_lists_no_folder_again_and_again(studies: list[Study]) -> None:
    with opened() as files:
        studies[0].plan()
    folders = Counter(one for one in files if Path(one).parent == studies[0].data)
    assert len(folders) == 5
    assert max(folders.values()) <= 12


def test_a_scan_that_changed_is_read_again(tmp_path: Path, studies: list[Study]) -> None:
    study = Study(tmp_path, 10)
    before = study.plan().plans[0].source.key
    with opened() as files:
        assert study.plan().plans[0].source.key == before
    assert not any(one.endswith(".nii.gz") for one in files)
    first, second, *_ = sorted((study.data / "source").iterdir())
    times = second.stat()
    second.write_bytes(bytes(times.st_size))  # as long as before, and of the same time
    os.utime(second, ns=(times.st_atime_ns, times.st_mtime_ns))
    with opened() as files, pytest.raises(DataError, match=second.name):
        study.plan()
    assert str(second) in files
    assert str(first) not in files


def test_missing_references_and_links_are_looked_for_once(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        for number in range(40):
            if name == "images" or number % 2:
                (tmp_path / name / f"{number}.nii.gz").touch()
    scans = find_scans(tmp_path, "images/{case}.nii.gz", None, {"all": "*"})
    with opened() as files:
        found = references_of(tmp_path, "labels/{case}.nii.gz", (scan.case for scan in scans))
        refuse_links(tmp_path, ["images/{case}.nii.gz"])
    assert sum(path.exists() for path in found.values()) == 20
    assert len(files) == 2


def test_a_folder_of_many_outputs_is_written_in_proportion(tmp_path: Path) -> None:
    def write(number: int) -> None:
        outputs = Outputs(tmp_path / str(number), "x")
        for name in range(number):
            outputs.note(str(name), "digest")

    for number in SIZES:
        (tmp_path / str(number)).mkdir()
    assert_linear([lambda number=number: write(number) for number in SIZES], again=False)


def test_a_store_is_listed_and_cleaned_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    stores = []
    for entries in SIZES:
        (tmp_path / str(entries)).mkdir()
        stores.append(MEASURE.write_store(tmp_path / str(entries), entries, runs=entries // 4))

    def runs(store: Any) -> None:
        needed = {key for run in known_runs(store)[0] for key in run.keys}
        found = Contents(store)
        assert sum(found.sizes.values()) == 120 * len(found.results)
        assert len(found.unused(needed)) == len(found.results) // 10

    assert_linear([lambda store=store: runs(store) for store in stores])
    assert_linear([Collector(store, dry_run=True).collect for store in stores])
    before = [len(Contents(store).results) for store in stores]
    assert_linear([Collector(store).collect for store in stores], again=False)
    after = [len(Contents(store).results) for store in stores]
    assert after == [entries - entries // 10 for entries in before]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_scans_and_ten_thousand_results(tmp_path: Path) -> None:
    site = tmp_path / "site"
    MEASURE.write_plugins(site)
    found = MEASURE.measure_cases(tmp_path, site, 1000)
    assert found["run again"].cpu_s < CASES_S
    assert found["check"].cpu_s < CASES_S
    report = tmp_path / "runs" / "many" / "report.html"
    assert report.stat().st_size < REPORT_MB * 1e6
    stores = tmp_path / "stores"
    stores.mkdir()
    for name, cost in MEASURE.measure_store(stores, site, 10_000).items():
        assert name == "gc, first" or cost.cpu_s < STORE_S, (name, cost)
