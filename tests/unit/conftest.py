"""Plugins that tests install, the steps they work in, and a user who may not read everything."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from odd_plugin import Bench, Install, forget

NOBODY = 65534


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    forget()
    yield folder
    forget()
    for name in ("odd", "other"):
        sys.modules.pop(name, None)


@pytest.fixture
def bench(tmp_path: Path, site: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> Bench:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bench(tmp_path, site, install)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder of a user who may not read everything."""
    with TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
