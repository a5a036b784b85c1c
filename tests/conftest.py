"""Tests run side by side, on any processor, and whatever the shell that starts them has set.

One thread for each, since threads that outnumber cores stall; examples take what time they need.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

OF_THE_SHELL = (
    *("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    *("CROSSMOD_DATA", "CROSSMOD_PROFILE", "CROSSMOD_TRACEBACK", "CROSSMOD_FAULT"),
)
for variable in OF_THE_SHELL:
    os.environ.pop(variable, None)

settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")


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
