"""`crossmod predict --watch` as a service: a real process, and a folder that fills up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bright
import numpy as np
import pytest
from program import Program
from scenes import centered, scene, write, write_dicom
from sheets import rows_of

GRID = (1.9, 2.1, 2.3), (50, 44, 38)
INTERRUPTED = 5
PATIENCE_S = 120


@pytest.fixture(scope="module")
def model(program: Program) -> Path:
    return bright.model(program.folder / "bright-by-hand")


@pytest.fixture(scope="module")
def site(program: Program) -> Path:
    return bright.site(program.folder / "site")


class Service:
    """A running `crossmod predict --watch`, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], log: Path, out: Path) -> None:
        self.process, self.log, self.out = process, log, out

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not what():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)

    def wait_for_words(self, *words: str) -> None:
        for one in words:
            self.wait_for(lambda one=one: one in self.said())

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_S) == INTERRUPTED, self.said()
        return self.said()

    def cases(self) -> list[str]:
        return [
            row["case"] for row in rows_of(self.out / "confidence.csv") if row["class"] == "tumor"
        ]

    def visible(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("[!.]*"))


@pytest.fixture
def serving(program: Program, model: Path, site: Path, tmp_path: Path):
    """Starts the service on a folder; whatever happens, it is gone afterwards."""

    @contextmanager
    def serve(*more: str) -> Iterator[Service]:
        (tmp_path / "in").mkdir(exist_ok=True)
        log = tmp_path / f"{time.monotonic_ns()}.log"
        arguments = [model, tmp_path / "in", tmp_path / "out", "--watch", *more]
        with log.open("w", encoding="utf-8") as file:
            process = program.start("predict", *arguments, to=file, PYTHONPATH=str(site))
        try:
            yield Service(process, log, tmp_path / "out")
        finally:
            process.kill()
            process.wait()

    return serve


def a_scan(path: Path) -> Path:
    affine = centered(*GRID)
    return write(path, scene(affine, GRID[1]), affine)


def test_scans_are_outlined_as_they_appear(
    program: Program, model: Path, site: Path, serving, tmp_path: Path
) -> None:
    incoming = tmp_path / "in"
    a_scan(incoming / "before.nii.gz")
    whole = a_scan(tmp_path / "whole.nii.gz").read_bytes()
    with serving() as service:
        service.wait_for_words("watching", "before: tumor")
        (incoming / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
        with (incoming / "slow.nii.gz").open("wb") as file:  # a copy that takes a while
            for start in range(0, len(whole), len(whole) // 4):
                file.write(whole[start : start + len(whole) // 4])
                file.flush()
                time.sleep(0.7)
        (tmp_path / "moved").write_bytes(whole)
        (tmp_path / "moved").replace(incoming / "moved.nii.gz")
        write_dicom(incoming / "series", scene(centered(*GRID), GRID[1]), centered(*GRID))
        (incoming / "trouble.nii.gz").write_bytes(whole)
        service.wait_for_words("slow: tumor", "moved: tumor", "series: tumor", "warning: cut: ",
                               "warning: trouble: ")  # fmt: skip
        time.sleep(4)  # a failure is not told again
        assert service.said().count("warning: cut: ") == 1
        assert sorted(service.cases()) == ["before", "moved", "series", "slow"]
        assert service.visible() == ["before.nii.gz", "confidence.csv", "moved.nii.gz",
                                     "series.nii.gz", "slow.nii.gz"]  # fmt: skip
        (incoming / "cut.nii.gz").write_bytes(whole)  # whole at last
        service.wait_for_words("cut: tumor")
        said = service.end()
    assert "stopped; run the same command to continue" in said
    assert "Traceback" not in said
    assert "slow" not in said.partition("slow: tumor")[0]  # never looked at while half there
    once = tmp_path / "once"
    program("predict", model, tmp_path / "whole.nii.gz", once, path=site)
    expected = (once / "whole.nii.gz").read_bytes()
    for case in ("before", "cut", "moved", "slow"):
        assert (service.out / f"{case}.nii.gz").read_bytes() == expected


@pytest.mark.slow
def test_a_restart_skips_what_is_outlined_and_spares_what_was_corrected(
    serving, tmp_path: Path
) -> None:
    incoming, out = tmp_path / "in", tmp_path / "out"
    for case in "abc":
        a_scan(incoming / f"{case}.nii.gz")
    with serving() as service:
        service.wait_for_words("a: tumor", "b: tumor", "c: tumor")
        assert service.end(signal.SIGTERM).count(": tumor") == 3
    corrected = write(out / "b.nii.gz", np.ones(GRID[1], np.uint8), centered(*GRID)).read_bytes()
    (out / "c.nii.gz").unlink()
    before = (out / "a.nii.gz").stat()
    with serving() as service:
        service.wait_for_words("c: tumor", "b.nii.gz: was not written by crossmod predict, or was")
        a_scan(incoming / "d.nii.gz")
        service.wait_for_words("d: tumor")
        said = service.end()
    assert "a: tumor" not in said
    assert service.cases() == ["a", "b", "c", "d"]
    assert (out / "a.nii.gz").stat().st_mtime_ns == before.st_mtime_ns
    assert (out / "b.nii.gz").read_bytes() == corrected
    with serving("--overwrite") as service:
        service.wait_for_words("a: tumor", "c: tumor", "d: tumor")
        service.end()
    assert (out / "b.nii.gz").read_bytes() == corrected


def test_label_maps_cannot_go_where_scans_come_from(
    program: Program, model: Path, site: Path, tmp_path: Path
) -> None:
    scan = a_scan(tmp_path / "in" / "a.nii.gz")
    inside = ["predict", model, scan.parent, scan.parent / "out", "--watch"]
    assert "would write into what the command reads" in program(*inside, code=3, path=site).stderr
    file = ["predict", model, scan, tmp_path / "out", "--watch"]
    assert "is not a folder that can be watched" in program(*file, code=3, path=site).stderr
    assert not (tmp_path / "out").exists()
