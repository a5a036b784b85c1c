from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from program import Program, Result
from tiny import Tiny


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="session")
def smoke(program: Program) -> Result:
    """A finished run of the smoke recipe."""
    return program.run("smoke")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A finished run of the tiny recipe that nothing happened to."""
    tiny = Tiny(tmp_path_factory.mktemp("undisturbed"))
    tiny.go()
    return tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """The tiny recipe with an empty store."""
    return Tiny(tmp_path / "tiny")


@pytest.fixture
def copied(undisturbed: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the finished run, to be damaged."""
    shutil.copytree(undisturbed.folder, tmp_path / "copied")
    return Tiny(tmp_path / "copied")
