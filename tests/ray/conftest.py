from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from program import Program, Result


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The smoke recipe, run by the local engine."""
    return Program(tmp_path_factory.mktemp("local")).run("run", "--workers", "2")
