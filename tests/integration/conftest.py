from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from program import Program, Result
from tiny import PREPARED, Tiny, begun

MadeOnce = Callable[[str, Callable[[Path], None]], Path]
"""Gives the folder of a name; the first process that asks fills it, others wait for that."""


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Makes what processes share that run tests side by side; whoever changes it takes a copy."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder_of(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="session")
def smoke(made_once: MadeOnce, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A copy of a finished run of the smoke recipe."""

    def fill(folder: Path) -> None:
        shown = Program(folder).run("smoke", "--workers", "2").stdout
        (folder / "shown").write_text(shown, encoding="utf-8")

    copy = tmp_path_factory.mktemp("smoke")
    shutil.copytree(made_once("smoke", fill), copy, dirs_exist_ok=True)
    return Result(copy / "smoke", (copy / "shown").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def after_smoke(smoke: Result) -> Program:
    """The command line beside that run, with its store."""
    return Program(smoke.folder.parent)


@pytest.fixture(scope="session")
def undisturbed(made_once: MadeOnce) -> Tiny:
    """A finished run of the tiny recipe that nothing happened to; it is only looked at."""

    def fill(folder: Path) -> None:
        Tiny(folder).go("--workers", "2")

    return Tiny(made_once("undisturbed", fill))


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """The tiny recipe with an empty store."""
    return Tiny(tmp_path / "tiny")


@pytest.fixture
def prepared(undisturbed: Tiny, tmp_path: Path) -> Tiny:
    """The tiny recipe with a store that holds the cohorts on their grid, and nothing else."""
    tiny = begun(undisturbed, tmp_path / "prepared")
    tiny.forget_all_but(*PREPARED)
    return tiny


@pytest.fixture
def copied(undisturbed: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the finished run, to be damaged."""
    shutil.copytree(undisturbed.folder, tmp_path / "copied")
    return Tiny(tmp_path / "copied")
