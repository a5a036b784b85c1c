"""The command line as a user runs it, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import forked
from sheets import rows_of

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "recipes" / "smoke.toml"


def environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment of a program that prints wide tables."""
    given = {name: value for name, value in os.environ.items() if name != "CROSSMOD_DATA"}
    return {**given, "COLUMNS": "160", **variables}


def expected(code: int, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """What a program printed that ended with this exit code."""
    assert done.returncode == code, done.stdout + done.stderr
    return done


@dataclass
class Program:
    """The command line, run as a user would, with one store."""

    folder: Path

    def __call__(
        self, *arguments: str | Path, code: int = 0, path: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `crossmod` and expect an exit code; ``path`` adds a folder of packages.

        The program is forked. `start` starts it as it is installed.
        """
        if path is not None:
            variables["PYTHONPATH"] = str(path)
        done = forked.crossmod([*map(str, arguments)], self.folder, environment(variables))
        return expected(code, done)

    def as_installed(
        self, *arguments: str | Path, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `crossmod` as a shell does, and expect an exit code."""
        process = self.start(*arguments, **variables)
        printed = process.communicate()
        return expected(
            code, subprocess.CompletedProcess(process.args, process.returncode, *printed)
        )

    def start(
        self, *arguments: str | Path, to: TextIO | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """Start `crossmod` in a session of its own, with environment variables.

        It prints to pipes, or all to a file.
        """
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "crossmod"), *map(str, arguments)],
            stdout=to or subprocess.PIPE,
            stderr=to or subprocess.PIPE,
            text=True,
            env=environment(variables),
            cwd=self.folder,
            start_new_session=True,
            preexec_fn=forked.heed_signals,
        )

    def run(
        self, name: str, *arguments: str | Path, recipe: Path = SMOKE, path: Path | None = None
    ) -> Result:
        """Run a recipe into the run folder ``name``, by one worker: each loads torch."""
        out = self.folder / name
        before = len(Result(out, "").events()) if out.exists() else 0
        done = self("run", recipe, "--out", out, "--store", self.folder / "store",
                    "--workers", "1", *arguments, path=path)  # fmt: skip
        return Result(out, done.stdout, before)


@dataclass
class Result:
    """What a run left behind."""

    folder: Path
    stdout: str
    before: int = 0

    def events(self) -> list[dict[str, str]]:
        """The events of the newest run in this folder."""
        lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[self.before :]]

    def made(self) -> list[str]:
        """The steps that were made, not found in the store."""
        return [event["step"] for event in self.events() if event["event"] == "finished"]

    def keys(self) -> dict[str, str]:
        """Step name -> content key."""
        return {event["step"]: event["key"] for event in self.events()}

    def scores(self) -> list[dict[str, str]]:
        """The rows of metrics.csv."""
        return rows_of(self.folder / "metrics.csv")

    def stages(self) -> list[str]:
        """The stages of metrics.csv in order."""
        return list(dict.fromkeys(row["stage"] for row in self.scores()))
