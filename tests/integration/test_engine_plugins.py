"""Whole runs on engines that somebody else wrote."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from program import ROOT
from tiny import Tiny

PAGE = ROOT / "docs" / "how-to" / "write-an-engine.md"
SSH = '#!/bin/sh\necho "$1" >>"$SSH_CALLS"\nshift\nexec "$@"\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def test_an_engine_from_a_copied_folder_makes_the_same_results(
    tiny: Tiny, undisturbed: Tiny, site: Path
) -> None:
    shutil.copytree(Path(__file__).with_name("crossmod_here"), site / "crossmod_here")
    about = site / "crossmod_here-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: crossmod-here\nVersion: 1.2\n", encoding="ascii")
    (about / "entry_points.txt").write_text(
        "[crossmod.engines]\nhere = crossmod_here:Here\n", encoding="ascii"
    )
    tiny.go("--engine", "here", PYTHONPATH=str(site))
    assert tiny.digests() == undisturbed.digests()
    assert set(tiny.made().values()) == {1}


class OnThePage(Tiny):
    """A run by the engine of the page, with its profile; `ssh` leads to this machine."""

    def __init__(self, copied: Tiny, site: Path, install: Callable[..., None]) -> None:
        super().__init__(copied.folder)
        [code] = blocks("python")
        metadata, profile = blocks("toml")
        (self.folder / "profile.toml").write_text(profile, encoding="utf-8")
        groups = tomllib.loads(metadata)["project"]["entry-points"]
        [(group, points)] = groups.items()
        [(name, value)] = points.items()
        install(site, "crossmod_command", code, f"[{group}]\n{name} = {value}\n")
        (site / "ssh").write_text(SSH, encoding="ascii")
        (site / "ssh").chmod(0o755)
        self.calls = site / "calls"
        self.variables = {
            "PYTHONPATH": str(site),
            "PATH": f"{site}:{os.environ['PATH']}",
            "SSH_CALLS": str(self.calls),
        }

    def forget(self, step: str) -> None:
        """Remove a result from the store."""
        key = self.result.keys()[step]
        shutil.rmtree(self.store / key[:2] / key)


@pytest.fixture
def page(copied: Tiny, site: Path, install: Callable[..., None]) -> OnThePage:
    return OnThePage(copied, site, install)


def test_the_engine_of_the_page_makes_what_is_missing(page: OnThePage, undisturbed: Tiny) -> None:
    for step in ("prepare-source", "prepare-target", "train-round-1"):
        page.forget(step)
    page.go(**page.variables)
    assert page.digests() == undisturbed.digests()
    assert page.calls.read_text("ascii").splitlines() == ["node7"] * 3
    assert not list((page.store / "command").iterdir())
    listed = page("plugins", **page.variables).stdout
    assert re.search("^ command +engine +crossmod_command", listed, re.MULTILINE)
    assert "Words that run a job" in page("plugins", "command", **page.variables).stdout


def test_the_engine_of_the_page_stops_and_resumes(page: OnThePage, undisturbed: Tiny) -> None:
    page.forget("train-round-1")
    process = page.fork(**page.variables, CROSSMOD_FAULT="train-round-1:step-2:sleep=3")
    page.wait_for("train-round-1:step-2")
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 5, stdout + stderr
    [saved] = (page.store / "checkpoints").glob("*/[0-9]*")
    assert int(saved.name) >= 1
    page.go(**page.variables)
    assert page.digests() == undisturbed.digests()


def test_a_command_that_fails_is_named(page: OnThePage) -> None:
    page.forget("train-round-1")
    (page.calls.parent / "ssh").write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
    said = page.go(code=4, **page.variables)
    assert "step train-round-1: the command ended with code 3 and left no result" in said


def test_a_broken_engine_stops_its_own_runs_only(
    copied: Tiny, site: Path, install: Callable[..., None]
) -> None:
    install(site, "odd", "import no_such_module", "[crossmod.engines]\nodd = odd:Odd\n")
    said = copied.go("--engine", "odd", code=4, PYTHONPATH=str(site))
    assert "engine 'odd' (odd 1.2): cannot be imported: ModuleNotFoundError" in said
    copied.go(PYTHONPATH=str(site))  # finds everything stored, on the local engine
    assert re.search("^ odd +broken", copied("plugins", PYTHONPATH=str(site)).stdout, re.MULTILINE)
    unknown = copied.go("--engine", "od", code=2)
    assert "no engine is called 'od'" in unknown
