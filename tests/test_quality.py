"""Format, lint, types and architecture are tests, so that one command checks everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SOURCES = ["crossmod", "plugins", "tests"]
COMMANDS = {
    "format": ["ruff", "format", "--check", *SOURCES],
    "lint": ["ruff", "check", *SOURCES],
    "types": ["mypy", "crossmod", *sorted(path.name for path in ROOT.glob("plugins/crossmod_*"))],
    "architecture": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_code_is_clean(name: str) -> None:
    tool, *arguments = COMMANDS[name]
    arguments = [f"plugins/{a}" if a.startswith("crossmod_") else a for a in arguments]
    done = subprocess.run(
        [str(BIN / tool), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("crossmod/**/*.py")), ids=lambda p: p.name)
def test_files_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
