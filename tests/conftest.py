"""Tests run side by side, and are the same whatever the shell they are started in has set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that outnumber cores stall

OF_THE_SHELL = (
    *("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    *("CROSSMOD_DATA", "CROSSMOD_PROFILE", "CROSSMOD_TRACEBACK", "CROSSMOD_FAULT"),
)
for variable in OF_THE_SHELL:
    os.environ.pop(variable, None)


def install(site: Path, name: str, code: str, entries: str = "", requires: str = "") -> None:
    """Put a plugin into a folder of packages as pip would; it is called as its module."""
    (site / f"{name}.py").write_text(code, encoding="utf-8")
    about = site / f"{name}-1.2.dist-info"
    about.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{requires}"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
    text = entries or f"[crossmod.plugins]\n{name} = {name}\n"
    (about / "entry_points.txt").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session", name="install")
def installer() -> Callable[..., None]:
    """Installs plugins that somebody else has written."""
    return install
