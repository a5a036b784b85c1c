"""Projects that `crossmod new` writes, installed and tested without pip."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tomllib
from multiprocessing.connection import Connection
from pathlib import Path

import forked
import pytest

from crossmod import scaffold

KINDS = {
    "translator": "gray-levels",
    "augmenter": "rician-noise",
    "segmenter": "dilated",
    "pseudo-labeler": "confident",
}
"""Kind of stage -> name of a plugin."""


def written(kind: str, place: Path) -> Path:
    """A project in a folder of the plugin's name."""
    names = scaffold.names_of(KINDS[kind], kind)
    scaffold.write_project(names, place / names.name)
    return place / names.name


def registered(project: Path) -> Path:
    """The project, with the metadata that pip would write, as a folder of packages."""
    about = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    folder = project / f"{re.sub('-', '_', about['name'])}-{about['version']}.dist-info"
    folder.mkdir()
    head = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    requires = "".join(f"Requires-Dist: {one}\n" for one in about["dependencies"])
    (folder / "METADATA").write_text(head + requires, encoding="utf-8")
    lines = [
        line
        for group, entries in about["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return project


def passed(project: Path) -> tuple[int, str]:
    """Exit code and output of pytest in a project, in a process that has loaded torch."""
    ours, theirs = forked.CONTEXT.Pipe(duplex=False)
    process = forked.CONTEXT.Process(target=_test, args=(project, theirs))
    process.start()
    theirs.close()
    answer: tuple[int, str] = ours.recv()
    process.join()
    return answer


def _test(project: Path, answer: Connection) -> None:
    os.chdir(project)
    sys.path.insert(0, str(project))
    printed = io.StringIO()
    # By its module, not its entry point: a checkout that was installed before has none.
    plugin = ("-p", "no:crossmod", "-p", "crossmod.testing.fixtures")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *plugin])
    answer.send((int(code), printed.getvalue()))
