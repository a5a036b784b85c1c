from __future__ import annotations

import pytest
from program import Program, Result


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="session")
def smoke(program: Program) -> Result:
    """A finished run of the smoke recipe."""
    return program.run("smoke")
