"""Walk a plan: skip what the store has, make the rest, show everything in a run folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from crossmod.entries import MANIFEST
from crossmod.errors import CrossmodError, PluginError
from crossmod.metrics import Score, read_scores, write_scores
from crossmod.model.record import write_record
from crossmod.plan import Plan
from crossmod.stages import Context, Progress
from crossmod.steps import DataFolder, PluginStep, ScoreStage, Step
from crossmod.store import Store

NUMBERED = re.compile(r"\d\d-.+")


class Observer(Protocol):
    """Watches a run; the console is one."""

    def started(self, step: Step, number: int, total: int) -> Progress:
        """A step begins; returns what shows its progress."""
        ...

    def finished(self, step: Step, number: int, total: int, seconds: float | None) -> None:
        """A step is done; no seconds means that the store had it."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


@dataclass
class Run:
    """One run of a plan in a folder.

    Attributes:
        plan: what to do.
        store: where results are kept.
        folder: the run folder people look at.
        device: "auto", "cpu", "cuda", "cuda:n".
        precision: "auto", "fp32" or "bf16".
        reached: the steps the run came to, in order. It may end early, and the store may hold
            results of later steps from another run.
    """

    plan: Plan
    store: Store
    folder: Path
    observer: Observer
    device: str = "auto"
    precision: str = "auto"
    reached: list[Step] = field(default_factory=list, init=False)
    _machine: tuple[str, str] | None = field(default=None, init=False)

    def execute(self) -> None:
        """Make every step that is not stored, then write the scores together.

        Raises:
            CrossmodError: a step failed; earlier results stay in the store.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shown: dict[str, str] = {}
        for number, step in enumerate(self.plan.steps, start=1):
            self._ensure(step, number)
            shown[step.name] = self._show(step, number)
            self.reached.append(step)
            if step.ends_run(self.folder_of(step)):
                self.observer.note(f"{step.name} says that going on is not worth it")
                break
        self._forget_others(set(shown.values()))
        write_scores(self.folder / "metrics.csv", self.scores())
        write_record(self.folder, self.plan, shown, self.folder_of)

    def folder_of(self, step: Step) -> Path:
        """Where the result of a step lies."""
        return step.root if isinstance(step, DataFolder) else self.store.path(step.key)

    def scores(self) -> list[Score]:
        """The scores of every stage and split that ran."""
        steps = [step for step in self.reached if isinstance(step, ScoreStage)]
        return [row for step in steps for row in read_scores(self.folder_of(step) / "metrics.csv")]

    def seconds(self) -> list[tuple[str, float]]:
        """How long each stored step took when it was made."""
        manifests = [(step.name, self.store.manifest(step.key)) for step in self.reached]
        return [(name, content["seconds"]) for name, content in manifests if content]

    def machine(self) -> tuple[str, str]:
        """Device and precision; asks torch, so only once something must be made."""
        if self._machine is None:
            from crossmod.torch import resolve_device, resolve_precision

            device = resolve_device(self.device)
            self._machine = device, resolve_precision(self.precision, device)
        return self._machine

    def _ensure(self, step: Step, number: int) -> None:
        total = len(self.plan.steps)
        if self.store.manifest(step.key) is None:
            with self.store.lock(step.key):
                if self.store.manifest(step.key) is None:  # nobody made it while we waited
                    seconds = self._make(step, number)
                    self.observer.finished(step, number, total, seconds)
                    return
        self._event("found", step)
        self.observer.finished(step, number, total, None)

    def _make(self, step: Step, number: int) -> float:
        for needed in step.inputs:
            self._verify(needed)
        self._event("started", step)
        begin = time.monotonic()
        progress = self.observer.started(step, number, len(self.plan.steps))
        note: dict[str, Any] = {"step": step.name, "key": step.key}
        device, precision = self.machine()
        with self.store.publish(step.key, note) as folder:
            ctx = Context(
                folder=folder,
                seed=step.seed,
                classes=self.plan.source.classes.labels,
                device=device,
                precision=precision,
                progress=progress,
                log=lambda text: self._event("log", step, text=text),
                metric=_metric_writer(folder),
            )
            self._work(step, ctx)
            note |= {"seconds": round(time.monotonic() - begin, 2), "precision": precision}
            note |= {"device": device}
        self._event("finished", step, seconds=note["seconds"])
        return float(note["seconds"])

    def _work(self, step: Step, ctx: Context) -> None:
        try:
            step.make(self.folder_of, ctx)
        except (CrossmodError, OSError) as error:
            self._event("failed", step, error=str(error))
            raise
        except Exception as error:
            self._event("failed", step, error=repr(error))
            if isinstance(step, PluginStep):
                raise PluginError(
                    f"{type(error).__name__}: {error}",
                    where=f"step {step.name}, {step.use.who}",
                    fix="--traceback shows where; finished steps are kept",
                ) from error
            raise

    def _verify(self, step: Step) -> None:
        """Check an input before it is used; a damaged entry is set aside."""
        if isinstance(step, DataFolder):
            return
        damaged = self.store.damaged(step.key)
        if damaged:
            aside = self.store.quarantine(step.key)
            raise CrossmodError(
                f"the stored result is damaged: {', '.join(damaged)}",
                where=f"step {step.name}",
                fix=f"it was moved to {aside}; run again to make it anew",
            )

    def _show(self, step: Step, number: int) -> str:
        """Link the stored files into the run folder under a name people can read."""
        name = f"{number:02d}-{step.name}"
        shown = self.folder / name
        entry = self.store.path(step.key)
        if _same_key(shown / MANIFEST, step.key):
            return name
        shutil.rmtree(shown, ignore_errors=True)
        shutil.copytree(entry, shown, copy_function=_link_or_copy)
        return name

    def _forget_others(self, shown: set[str]) -> None:
        """Remove step folders that earlier runs left here and this plan does not have."""
        for path in self.folder.iterdir():
            numbered = NUMBERED.fullmatch(path.name) and (path / MANIFEST).is_file()
            if numbered and path.name not in shown:
                shutil.rmtree(path)

    def _event(self, event: str, step: Step, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"time": now, "event": event, "step": step.name, "key": step.key, **values}
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _same_key(manifest: Path, key: str) -> bool:
    with suppress(OSError, ValueError):
        content: Mapping[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        return content.get("key") == key
    return False


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _metric_writer(folder: Path) -> Any:
    def write(**values: float) -> None:
        with (folder / "training.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: float(value) for name, value in values.items()}) + "\n")

    return write
