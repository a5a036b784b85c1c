"""Checkpoints of unfinished training: two generations, verified before use.

`crossmod.torch.resumable` defines what a state holds; this module says when one is
due, keeps it, and finds the newest that is whole.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

from crossmod.files.atomic import damaged_files, manifest_of, published

KEPT = 2
KEEP = "keep"
FILES = "files"
"""Room in a checkpoint for what the stage had written into its own folder by then."""


class Saved(NamedTuple):
    """A checkpoint: the steps done by then, and its folder."""

    step: int
    folder: Path


class Checkpoints:
    """The checkpoints of one step of a run.

    Args:
        folder: where they lie.
        work: the folder the stage writes into; what it holds comes along.
        minutes: between two checkpoints.
        stopping: whether the program was asked to stop.
        warn: takes a line for the user.

    Attributes:
        to_the_end: whether the step is made; one whose cost is estimated is only begun.
    """

    to_the_end: ClassVar[bool] = True

    def __init__(
        self,
        folder: Path,
        work: Path,
        *,
        minutes: float,
        stopping: Callable[[], bool] = lambda: False,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.work, self.minutes = folder, work, minutes
        self.stopping, self.warn = stopping, warn
        self.earlier_seconds = 0.0
        self._began = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on this step, runs that were interrupted included."""
        return self.earlier_seconds + time.monotonic() - self._began

    @property
    def keep(self) -> Path:
        """Room beside the states for what a stage keeps itself until the step is done."""
        return self.folder / KEEP

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self.stopping() or time.monotonic() - self._last >= 60 * self.minutes

    def steps(self, start: int, total: int, phase: int | None) -> Iterable[int]:
        """The steps to do; to estimate a cost, another class may leave most of them out.

        Args:
            start: steps done.
            total: steps of the whole training.
            phase: steps after which the cost of a step changes.
        """
        del phase
        return range(start, total)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep a state.

        Args:
            step: steps done.
            write: fills a folder.
        """
        with published(self.folder / f"{step:09d}", {"seconds": self.seconds}) as draft:
            write(draft)
            shutil.copytree(self.work, draft / FILES)
        for old in self._generations()[:-KEPT]:
            shutil.rmtree(old)
        self._last = time.monotonic()

    def newest(self) -> Saved | None:
        """The newest whole checkpoint; what the stage had written by then is put back."""
        for folder in reversed(self._generations()):
            damaged = damaged_files(folder)
            if damaged:
                self.warn(f"the checkpoint of step {int(folder.name)} is damaged "
                          f"({', '.join(damaged)}); resuming from an earlier one")  # fmt: skip
                shutil.rmtree(folder)
                continue
            self.earlier_seconds = float((manifest_of(folder) or {}).get("seconds", 0.0))
            self._put_back(folder / FILES)
            return Saved(int(folder.name), folder)
        return None

    def clear(self) -> None:
        """Forget them: the step is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _generations(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*"))

    def _put_back(self, files: Path) -> None:
        shutil.rmtree(self.work)
        shutil.copytree(files, self.work, copy_function=shutil.copyfile)  # writable again
