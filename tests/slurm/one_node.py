"""A Slurm of one node, and `crossmod` running on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "recipes" / "smoke.toml"
PROGRAM = Path(sys.executable).parent / "crossmod"

PROFILE = """
engine = "slurm"
checkpoint_minutes = 0
[slurm]
gpus_per_task = 0
cpus_per_task = {cores}
time_minutes = {minutes}
signal_seconds = 60
{more}
"""


def slurm(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def until(met: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition is met."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def worker(store: Path) -> int:
    """The process of the job that works in a store."""
    python = f"^{Path(sys.executable).parent}/python[0-9.]*"
    return int(slurm("pgrep", "--full", f"{python} .* submitit.core._submit {store}/"))


def digests(store: Path) -> dict[str, dict[str, str]]:
    """Key -> file -> digest of every entry of a store."""
    entries = {}
    for path in store.glob("[0-9a-f][0-9a-f]/*/manifest.json"):
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        entries[path.parent.name] = {name: file["sha256"] for name, file in files.items()}
    return entries


@dataclass
class Reference:
    """An undisturbed run on this machine."""

    store: Path
    digests: dict[str, dict[str, str]]
    keys: dict[str, str]


@dataclass
class Work:
    """A run folder and its store; one step of the run may be slow.

    Attributes:
        folder: of the test.
        slow: the step whose training is slow.
        seconds: each of its four iterations takes.
    """

    folder: Path
    slow: str = "translate-gan-fit"
    seconds: float = 8.0
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def without(self, reference: Path, keys: Iterable[str]) -> None:
        """Fill the store with all that another has but these keys."""
        shutil.copytree(reference, self.store, ignore=lambda folder, names: set(keys) & set(names))

    def profile(self, cores: int = 1, minutes: int = 30, more: str = "") -> Path:
        path = self.folder / "profile.toml"
        text = PROFILE.format(cores=cores, minutes=minutes, more=more)
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start `crossmod run` of the smoke recipe."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "CROSSMOD_FAULT": f"{self.slow}:step-*:sleep={self.seconds}",
            "CROSSMOD_FAULT_TRACE": str(self.trace),
        }
        environment.pop("CROSSMOD_DATA", None)
        process = subprocess.Popen(
            [
                PROGRAM,
                "run",
                SMOKE,
                "--out",
                self.folder / "run",
                "--store",
                self.store,
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """Run `crossmod`, expect an exit code; returns what it printed."""
        return self.end(self.start(*arguments), code)

    def end(self, process: subprocess.Popen[str], code: int = 0, seconds: float = 850) -> str:
        """Wait for a program that was started."""
        printed, _ = process.communicate(timeout=seconds)
        assert process.returncode == code, printed
        return printed

    def steps(self) -> list[str]:
        """The iterations of the slow training that were begun to be kept, in order."""
        if not self.trace.exists():
            return []
        prefix = f"{self.slow}:step-"
        lines = self.trace.read_text(encoding="utf-8").splitlines()
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    def under_way(self) -> None:
        """Wait until the slow training has done an iteration."""
        until(lambda: len(self.steps()) >= 1, 90, "the training does not begin")

    def events(self) -> str:
        return (self.folder / "run" / "events.jsonl").read_text(encoding="utf-8")

    def abandon(self) -> None:
        """Kill what a failed test has left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
