"""The numbers of every training as TensorBoard event files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from crossmod.data.curves import SCALE, STEP, Counter, measured, read_rows
from crossmod.errors import MachineError
from crossmod.run.run import Run
from crossmod.run.steps import Step
from crossmod.run.task import Advance

FOLDER = "tensorboard"
"""The folder in the run folder; `tensorboard --logdir` takes it."""

KEY_LENGTH = 8
"""Characters of a key that tell the results of a step apart."""

MODULES = ("torch.utils.tensorboard", "tensorboardX")
"""Which bring a `SummaryWriter`; the first needs the package tensorboard."""


class Board:
    """Observes runs, and writes what their steps note; each result has a folder of its own.

    Raises:
        MachineError: no package that writes such files is installed.
    """

    def __init__(self) -> None:
        self._kind = _writer()
        self._open: dict[str, tuple[Any, Counter]] = {}

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *unused: object) -> None:
        for writer, _ in self._open.values():
            writer.close()

    def found(self, run: Run, step: Step) -> None:
        """Write the curves of a step that another run made, unless they are there."""
        rows = [row for row in read_rows(step.folder(run.store)) if STEP in row]
        if rows and not _folder(run, step).exists():
            self.started(run, step)
            for row in rows:
                self._write(step.key, row)
            self.left(step)

    def started(self, run: Run, step: Step) -> None:
        """A step begins; its files appear with the first number."""
        folder = str(_folder(run, step))
        self._open[step.key] = (_Late(self._kind, folder), Counter())

    def advanced(self, advance: Advance) -> None:
        """A step noted numbers."""
        if STEP in advance.values:
            self._write(advance.key, advance.values)

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """A step is done."""
        del run, seconds
        self.left(step)

    def left(self, step: Step) -> None:
        """A step has ended or was stopped."""
        writer, _ = self._open.pop(step.key)
        writer.close()

    def note(self, text: str) -> None:
        """Remarks are in the log."""

    def _write(self, key: str, row: Any) -> None:
        writer, count = self._open[key]
        step = int(count(float(row[STEP])))
        values = measured(row)
        if SCALE in row:
            values[SCALE] = float(row[SCALE])
        for name, value in values.items():
            writer.add_scalar(name, value, step)


class _Late:
    """A writer whose files appear with the first number: most steps note none."""

    def __init__(self, kind: Any, folder: str) -> None:
        self._kind, self._folder = kind, folder
        self._writer: Any = None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if self._writer is None:
            self._writer = self._kind(self._folder)
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _folder(run: Run, step: Step) -> Path:
    """Named by its key, too: a changed recipe makes another curve."""
    return run.folder / FOLDER / step.name / step.key[:KEY_LENGTH]


def _writer() -> Any:
    for module in MODULES:
        try:
            return import_module(module).SummaryWriter
        except ImportError:
            continue
    raise MachineError(
        "log.tensorboard needs a package that is not installed",
        where="profile",
        fix="pip install tensorboard, or leave out log.tensorboard",
    )
