"""Make one task: verify its inputs, do the work, publish the result."""

from __future__ import annotations

import errno
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from crossmod import errors
from crossmod.data.curves import LOG
from crossmod.errors import CrossmodError, Interrupted, MachineError, PluginError
from crossmod.faults import during, point
from crossmod.files.atomic import CANNOT_WRITE, append_line
from crossmod.machine import (
    GIB,
    forget_gpu_peak,
    forget_peak,
    gpu_peak_bytes,
    memory_short,
    out_of_memory,
    peak_bytes,
    resident_bytes,
)
from crossmod.run.task import WARNING, Advance, Event, Outcome, Remark, Task, versions
from crossmod.stages.context import Context
from crossmod.stages.guard import (
    described,
    guarded,
    is_out_of_memory,
    line_in,
    text_of,
    told,
    trusted,
)
from crossmod.store.checkpoints import Checkpoints
from crossmod.store.store import Store

ItemT = TypeVar("ItemT")

TRANSIENT = (errno.EIO, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)
PAUSES_S = (1.0, 5.0)
"""Waited before the second and third attempt after an error that may pass."""

TELL_EVERY_S = 0.1

LINES_KEPT = 1000
"""Different lines of a plugin that its result keeps; the first are kept."""


@dataclass
class Maker:
    """Makes a task and tells how far it is.

    Attributes:
        task: what to make.
        tell: takes events.
        stopping: whether the program was asked to stop.
        cores: how many cores of the CPU the task may use at the moment; by default those that its
            `Machine` says.
    """

    task: Task
    tell: Callable[[Event], None] = lambda event: None
    stopping: Callable[[], bool] = lambda: False
    cores: Callable[[], int] | None = None
    at: str = field(default="", init=False)
    _told: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.tell = trusted(self.tell)  # an engine may write it down

    def outcome(self) -> Outcome:
        """Make the task unless the store has it; errors come back, none is raised."""
        key = self.task.key
        with during(self.task.name):
            try:
                _require_same_versions(self.task)
                if damaged := self._damaged_inputs():
                    return Outcome(key, damaged=damaged)
                seconds = self.make()
            except Exception as error:
                text = "".join(traceback.format_exception(error))
                return Outcome(key, error=self._explained(error), traceback=text)
        made = seconds is not None
        spent = round(seconds or 0.0, 2)
        return Outcome(key, made, spent, resident_bytes=resident_bytes())

    @cached_property
    def store(self) -> Store:
        """The store of the task."""
        return Store(self.task.store, self.task.shared)

    def _damaged_inputs(self) -> tuple[str, ...]:
        """Check the inputs; what is damaged is set aside, to be recomputed."""
        keys = [step.key for step in self.task.step.inputs if step.stored]
        damaged = tuple(key for key in dict.fromkeys(keys) if self.store.damaged(key))
        for key in damaged:
            self.store.quarantine(key)
        return damaged

    def make(self) -> float | None:
        """Make the task; seconds, or None if the store has it by now.

        Raises:
            Exception: whatever the step or its plugin raises.
        """
        store, key = self.store, self.task.key
        waiting = Remark(key, f"{self.task.name} is being made by another run; waiting", True)
        point("lock")
        with store.lock(key, lambda: self.tell(waiting)):
            if store.manifest(key) is not None:
                return None
            if store.path(key).exists() and (aside := store.quarantine(key)):
                text = f"the stored result of {self.task.name} is corrupted; moved to {aside.name}"
                self.tell(Remark(key, f"{text}, recomputing it", True))
            return self._make_patiently()

    def _make_patiently(self) -> float:
        """Try again after errors of a disk that may pass."""
        for pause in PAUSES_S:
            try:
                return self._make()
            except (OSError, MachineError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if not isinstance(cause, OSError) or cause.errno not in TRANSIENT:
                    raise
                text = f"{self.task.name}: {cause.strerror or cause}; retrying"
                self.tell(Remark(self.task.key, text, True))
                time.sleep(pause)
        return self._make()

    def _make(self) -> float:
        from crossmod.torch import resolve_device, resolve_precision, set_up

        step, machine = self.task.step, self.task.machine
        device = resolve_device(machine.device)
        precision = resolve_precision(machine.precision, device)
        set_up(machine.determinism, device)
        note: dict[str, Any] = {"step": step.name, "key": step.key, "content": step.content}
        forget_peak()
        forget_gpu_peak(device)
        point("begin")
        with self.store.publish(step.key, note) as folder:
            checkpoints = self.checkpoints(folder)
            said: dict[str, None] = {}
            ctx = Context(
                folder=folder,
                seed=step.seed,
                classes=self.task.classes,
                device=device,
                precision=precision,
                cores=self.cores or (lambda: machine.cores),
                checkpoints=checkpoints,
                progress=self.progress,
                log=lambda text: self._log(text_of(text), said),
                metric=self._metric_writer(folder),
            )
            with self._guarded(folder):
                step.make(self.store, ctx)
            self.at = ""
            seconds = checkpoints.seconds
            note |= {"seconds": round(seconds, 2), "device": device, "precision": precision}
            note |= {"determinism": machine.determinism, "peak_bytes": peak_bytes()}
            note |= {"gpu_peak_bytes": gpu_peak_bytes(device)} if device != "cpu" else {}
            note |= {"log": list(said)}
        checkpoints.clear()
        return seconds

    def checkpoints(self, folder: Path) -> Checkpoints:
        """The states that a training in a folder leaves on the way."""
        return Checkpoints(
            self.store.checkpoints(self.task.key),
            folder,
            minutes=self.task.machine.checkpoint_minutes,
            stopping=self.stopping,
            warn=self._warn,
        )

    def _guarded(self, folder: Path) -> AbstractContextManager[None]:
        """Watches the plugin at work, if it is one that works."""
        step, store = self.task.step, self.store
        if not step.who:
            return nullcontext()
        own = (folder, store.checkpoints(step.key))
        return guarded(step.who, step.seed, own, store.folder, self._warn)

    def _log(self, line: str, said: dict[str, None]) -> None:
        """Tell a line of a plugin; it is kept with the result, for runs that find that stored."""
        if len(said) < LINES_KEPT:
            said[line] = None
        if line.startswith(WARNING):
            self._warn(line.removeprefix(WARNING))
        else:
            self.tell(Remark(self.task.key, line))

    def _metric_writer(self, folder: Path) -> Callable[..., None]:
        def write(**values: Any) -> None:
            row = {n: v if isinstance(v, str) else float(v) for n, v in values.items()}
            append_line(folder / LOG, row)
            self.tell(Advance(self.task.key, 0, None, "", self.at, resident_bytes(), row))

        return write

    def _warn(self, text: str) -> None:
        self.tell(Remark(self.task.key, f"{self.task.name}: {text}", True))

    def progress(
        self, items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        """Yield the items while telling how far it is; ends at once where that was asked for.

        If there are fewer items than `total`, they are the last ones: a training resumes.
        """
        size = len(items) if isinstance(items, Sized) else total
        total = size if total is None else total
        for done, item in enumerate(items, max(0, (total or 0) - (size or 0))):
            if self.stopping() and not isinstance(item, int):  # a training saves its state first
                raise Interrupted("stopped before its end")
            self.at = str(getattr(item, "case", "") or "")
            if time.monotonic() - self._told > TELL_EVERY_S:
                self._told = time.monotonic()
                advance = Advance(self.task.key, done, total, label, self.at, resident_bytes())
                self.tell(advance)
            yield item

    def _explained(self, error: Exception) -> CrossmodError:
        where = place_of(self.task)
        at = f"{where}, case {self.at}" if self.at else where
        package = self.task.step.package
        if isinstance(error, CrossmodError):
            return _ours(error, at, self.task.step.who, line_in(error, package))
        if is_out_of_memory(error):
            return out_of_memory(error, where, self.at)
        if isinstance(error, OSError) and error.errno in (*TRANSIENT, *CANNOT_WRITE):
            return MachineError(
                f"{error.strerror}: {error.filename or ''}",
                where=where,
                fix="check the disk, or choose another folder with --store, then rerun to resume",
            )
        kind = PluginError if self.task.step.who else CrossmodError
        return kind(
            told(error, package),
            where=at,
            fix="use --traceback to see all calls; finished steps are kept",
        )


def place_of(task: Task) -> str:
    """A task in messages: its step, and the plugin that works there."""
    return ", ".join(filter(None, [f"step {task.name}", task.step.who]))


def killed_for_memory(task: Task, last: Advance | None, what: str) -> MachineError:
    """The error for a task whose process was killed because memory was short.

    Args:
        task: the task.
        last: its last sign of life; None if it gave none.
        what: who killed it.
    """
    held = f"the process held {last.resident_bytes / GIB:.1f} GiB" if last else ""
    return memory_short(place_of(task), last.item if last else "", held, what)


def _ours(error: CrossmodError, where: str, who: str, line: str) -> CrossmodError:
    """An error as one that other processes can read, and that says where it arose.

    A plugin may raise a class of its own, which is unknown elsewhere or is made in another way.

    Args:
        error: what was raised.
        where: the step, its plugin and the case.
        who: that plugin; empty if there is none.
        line: the line of the plugin that the error came through; empty if there is none.
    """
    kinds = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    kind = cast("type[CrossmodError]", next(kinds))
    what, place, allowed, fix = (
        text_of(getattr(error, name, "")) for name in ("what", "where", "allowed", "fix")
    )
    what = what or described(error)
    if kind is not Interrupted:  # its step is named where it is told
        names_it = bool(place) and (not line or who in place)
        place = place if names_it else ", ".join(filter(None, [where, place]))
    if kind is PluginError and line:
        what = f"{what}\n  {line}"
    return kind(what, where=place, allowed=allowed, fix=fix)


def forward_warnings(key: str, tell: Callable[[Event], None]) -> None:
    """Let Python's warnings in this process become remarks about a task, each text once."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *unused: object) -> None:
        text = f"{category.__name__}: {message}"
        if text not in shown:  # Python forgets what it has shown when its filters change
            shown.add(text)
            tell(Remark(key, text))

    warnings.showwarning = show  # type: ignore[assignment]


def _require_same_versions(task: Task) -> None:
    """A node of a cluster may have another installation than the one that planned.

    Raises:
        MachineError: the key of the step comes out differently here.
    """
    if task.step.key == task.key:
        return
    here = versions()
    other = [f"{n} {here[n]} instead of {v}" for n, v in task.versions.items() if here[n] != v]
    raise MachineError(
        f"this machine has {', '.join(other) or 'different plugin code'}",
        where=f"step {task.name}",
        fix="use the same environment on every machine",
    )
