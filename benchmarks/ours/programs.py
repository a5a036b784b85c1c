"""Whole processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from racing.turns import Turns

CROSSMOD = [sys.executable, "-c", "from crossmod.cli import main; main()"]


def command(turns: Turns, arguments: list[str]) -> None:
    """Start crossmod and wait for its end."""
    for _ in turns:
        call(*arguments)


def call(*arguments: str | Path) -> None:
    """Run a command of crossmod.

    Raises:
        CalledProcessError: it fails.
    """
    subprocess.run([*CROSSMOD, *map(str, arguments)], check=True, stdout=sys.stderr)
