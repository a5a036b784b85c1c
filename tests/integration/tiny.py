"""The smallest recipe that has every stage, and what a run of it leaves in its store."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import forked
from program import SMOKE, Program, Result, environment

from crossmod.faults import FAULT
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.run.task import Machine, Task

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

PROFILE = """\
checkpoint_minutes = 0
[local]
workers = 1
"""
"""Checkpoints after every step of a training; one worker, since each loads torch for seconds."""

PREPARED = ("phantom", "prepare-source", "prepare-target", "prepare-validation")
"""The steps before all learning."""


class Tiny(Program):
    """The command line on the tiny recipe."""

    def __init__(self, folder: Path, recipe: str = RECIPE) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.toml").write_text(recipe, encoding="utf-8")
        (folder / "profile.toml").write_text(PROFILE, encoding="utf-8")

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
        """Start the recipe as it is installed."""
        return self.start(*self.arguments(*more), **variables)

    def fork(self, *more: str | Path, **variables: str) -> forked.Command:
        """Start the recipe; with a fault to come, points that are passed are noted."""
        variables = {"CROSSMOD_FAULT_TRACE": str(self.trace), **variables}
        arguments = [*map(str, self.arguments(*more))]
        return forked.Command(arguments, self.folder, environment(variables))

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
        for folder, _ in self._results():
            content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            digests = {name: file["sha256"] for name, file in content["files"].items()}
            found[content["key"]] = {"step": content["step"], **digests}
        return found

    def forget(self, *steps: str) -> None:
        """Remove the results of these steps from the store."""
        for folder, step in self._results():
            if step in steps:
                shutil.rmtree(folder)

    def forget_all_but(self, *steps: str) -> None:
        """Remove all other results from the store."""
        self.forget(*({step for _, step in self._results()} - {*steps}))

    def _results(self) -> list[tuple[Path, str]]:
        """Folder and step of every result in the store."""
        manifests = self.store.glob("??/*/manifest.json")
        return [(one.parent, json.loads(one.read_text("utf-8"))["step"]) for one in manifests]

    def make(self, step: str, fault: str) -> tuple[int | None, str]:
        """Let a step fail in a worker that is forked.

        Returns:
            The exit code of the process, and why the step failed.
        """
        [checked] = load_all(self.folder / "tiny.toml", [])
        [made] = [one for one in Planner(checked, None).plan().steps if one.name == step]
        classes = checked.recipe.data.class_table.labels
        machine = Machine("cpu", determinism="exact", checkpoint_minutes=0)
        task = Task(made.key, made, self.store, classes, machine)
        return forked.made(task, **{FAULT: f"{step}:{fault}"})

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


def begun(finished: Tiny, folder: Path, recipe: str = RECIPE) -> Tiny:
    """A recipe that has not been run, with all that another run has stored."""
    tiny = Tiny(folder, recipe)
    shutil.copytree(finished.store, tiny.store)
    return tiny


def settings(*changes: str) -> list[str]:
    """The options of `crossmod run` that change a recipe."""
    return [word for change in changes for word in ("--set", change)]
