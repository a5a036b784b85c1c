"""Format, lint, types and architecture are tests, so that one command checks everything."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SOURCES = ["crossmod", "plugins", "benchmarks", "tests"]
COMMANDS = {
    "format": ["ruff", "format", "--check", *SOURCES],
    "lint": ["ruff", "check", *SOURCES],
    "types": [
        "mypy",
        "crossmod",
        "benchmarks",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/crossmod_*")),
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/*/crossmod_*")),
    ],
    "architecture": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_code_is_clean(name: str) -> None:
    tool, *arguments = COMMANDS[name]
    done = subprocess.run(
        [str(BIN / tool), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("crossmod/**/*.py")), ids=lambda p: p.name)
def test_files_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


CHALLENGE = re.compile(r"crossmoda|koos|\b(tumor|cochlea|vestibular|etz|ldn|ukm)\b", re.IGNORECASE)
KNOWS_IT = [ROOT / "crossmod" / "data" / "crossmoda.py"]


def test_one_module_and_the_phantom_know_the_challenge() -> None:
    """Texts of the code, docstrings apart: these cite sources and explain defaults."""
    found = []
    for path in sorted(ROOT.glob("crossmod/**/*.py")):
        if path in KNOWS_IT or path.is_relative_to(ROOT / "crossmod" / "phantom"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in told and CHALLENGE.search(node.value)
        ]
    assert not found
