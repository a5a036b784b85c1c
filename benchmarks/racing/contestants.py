"""Processes that wait for their turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from racing.machine import busy_seconds

HERE = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


class CannotRun(Exception):
    """A contestant does not start, or stops."""


@dataclass(frozen=True)
class Sample:
    """One turn.

    Attributes:
        seconds: for the work once.
        disturbance: share of the machine that other processes used meanwhile; 0 if unknown.
        operations: of the work once, where they were counted.
        precision: the number format of the contestant.
        peak_bytes: memory of its process so far.
        cpu_seconds: of all its threads and programs, for the work once.
    """

    seconds: float
    disturbance: float
    operations: float
    precision: str
    peak_bytes: int
    cpu_seconds: float


@dataclass
class Contestant:
    """A contestant in a process of its own, with its own memory allocator and threads.

    Attributes:
        call: ``module:function``.
        settings: its keyword arguments.
        threads: that libraries may start.
        scratch: an empty folder to work in.
        python: the interpreter.
    """

    call: str
    settings: dict[str, Any]
    threads: int
    scratch: Path
    python: Path = Path(sys.executable)
    _process: subprocess.Popen[str] = field(init=False, repr=False)

    def __enter__(self) -> Self:
        """Start the process; it gets ready while others start."""
        number = str(self.threads)
        surroundings = {**os.environ, **dict.fromkeys(THREADS, number), "PYTHONPATH": str(HERE)}
        job = {"call": self.call, "settings": self.settings}
        self.scratch.mkdir(parents=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(self.python), "-m", "racing.child", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.scratch,
                env=surroundings,
                text=True,
            )
        return self

    def __exit__(self, *error: object) -> None:
        """End the process: it has no more turns."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        if any(error):
            self._process.kill()
        self._process.wait()

    @property
    def _log(self) -> Path:
        return self.scratch.with_suffix(".log")

    def get_ready(self) -> None:
        """Wait until it is.

        Raises:
            CannotRun: it fails.
        """
        self._answer()

    def turn(self, seconds: float, *, count: bool = False) -> Sample:
        """Let it work, as often as fits into that time, but once at least.

        Raises:
            CannotRun: it fails.
        """
        assert self._process.stdin is not None
        before = busy_seconds()
        with suppress(BrokenPipeError):  # it is gone; its answer says why
            self._process.stdin.write(json.dumps({"seconds": seconds, "count": count}) + "\n")
            self._process.stdin.flush()
        said = self._answer()
        after = busy_seconds()
        disturbance = 0.0
        if before is not None and after is not None:
            others = max(0.0, after - before - said["cpu"])
            disturbance = others / (said["wall"] * (os.cpu_count() or 1))
        return Sample(
            said["seconds"],
            disturbance,
            said["operations"],
            said["precision"],
            said["peak_bytes"],
            said["cpu"] / said["wall"] * said["seconds"],
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CannotRun(lines[-1] if lines else "it ended without a word")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise CannotRun(said["error"])
        return said
