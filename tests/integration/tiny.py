"""The smallest recipe that has every stage, and what a run of it leaves in its store."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

from program import SMOKE, Program, Result

RECIPE = f"""\
extends = "{SMOKE}"
title = "Tiny"
determinism = "exact"
[data]
phantom = {{ source = 2, target = 2, validation = 2 }}
[preprocess]
spacing_mm = [3.0, 3.0, 3.0]
crop = [40, 32]
[translate.gan]
iterations = 4
discriminator_layers = 1
[augment.tumors]
min_size = 25
iterations = 2
start_scales = [1]
[segment]
patch = [24, 24, 16]
iterations = 4
[evaluate]
compare = []
"""

Digests = dict[str, dict[str, str]]

PATIENCE_S = 300.0
"""Ends a test that waits for what never comes."""


class Tiny(Program):
    """The command line on the tiny recipe, with checkpoints after every step of a training."""

    def __init__(self, folder: Path, recipe: str = RECIPE) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.toml").write_text(recipe, encoding="utf-8")
        (folder / "profile.toml").write_text("checkpoint_minutes = 0\n", encoding="utf-8")

    def arguments(self, *more: str | Path) -> list[str | Path]:
        """What `crossmod` is called with."""
        return ["run", "tiny.toml", "--profile", "profile.toml", *more]

    def go(self, *more: str | Path, code: int = 0, **variables: str) -> str:
        """Run the recipe and return what was printed."""
        done = self(*self.arguments(*more), code=code, **variables)
        return done.stdout + done.stderr

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start `crossmod`; with a fault to come, points that are passed are noted."""
        return super().start(*arguments, **{"CROSSMOD_FAULT_TRACE": str(self.trace), **variables})

    def launch(self, *more: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start the recipe."""
        return self.start(*self.arguments(*more), **variables)

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "store"

    @property
    def result(self) -> Result:
        return Result(self.folder / "runs" / "tiny", "")

    def digests(self) -> Digests:
        """Key -> file -> digest, of every result in the store."""
        found = {}
        for manifest in self.store.glob("??/*/manifest.json"):
            content = json.loads(manifest.read_text(encoding="utf-8"))
            digests = {name: file["sha256"] for name, file in content["files"].items()}
            found[content["key"]] = {"step": content["step"], **digests}
        return found

    def made(self) -> Counter[str]:
        """How often each step was made, over all runs in the run folder."""
        return Counter(self.result.made())

    def wait_for(self, point: str) -> None:
        """Wait until a point (`step:point`) is reached, for as long as a busy machine may take."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.trace.exists() and point in self.trace.read_text("utf-8").splitlines():
                return
            time.sleep(0.05)
        raise TimeoutError(point)
