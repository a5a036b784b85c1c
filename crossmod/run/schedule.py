"""Make all steps of one or several runs: what can be made now goes to the engine, each once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from crossmod.errors import CrossmodError, Interrupted
from crossmod.run.engine import Engine
from crossmod.run.folder import EVENTS
from crossmod.run.run import Run
from crossmod.run.steps import Step
from crossmod.run.task import Advance, Event, Outcome, Remark, Task

ATTEMPTS = 3
"""Times a step is made again because its stored result turned out to be damaged."""

GRACE_S = 28.0
"""After it was asked to stop, an engine has so long."""


class Observer(Protocol):
    """Watches; the console is one."""

    def found(self, run: Run, step: Step) -> None:
        """The store has a step already."""
        ...

    def started(self, run: Run, step: Step) -> None:
        """A step was handed to the engine."""
        ...

    def advanced(self, advance: Advance) -> None:
        """A step got on."""
        ...

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """A step is done."""
        ...

    def left(self, step: Step) -> None:
        """A step was stopped before it was done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class StopSign:
    """Whether the user or the system asked the program to stop."""

    def __init__(self) -> None:
        self.raised = False

    def __bool__(self) -> bool:
        return self.raised


@dataclass
class Scheduler:
    """Walks the plans of several runs at once; a step that several need is made once.

    Attributes:
        runs: what to do.
        engine: makes tasks.
        observer: receives all events.
        stop_sign: looked at between events.
    """

    runs: Sequence[Run]
    engine: Engine[Any]
    observer: Observer
    stop_sign: StopSign = field(default_factory=StopSign)
    _working: dict[str, tuple[Run, Step]] = field(default_factory=dict, init=False)
    _made: dict[str, str] = field(default_factory=dict, init=False)
    _damaged: Counter[str] = field(default_factory=Counter, init=False)
    _noted: set[tuple[str, str]] = field(default_factory=set, init=False)
    _failure: CrossmodError | None = field(default=None, init=False)
    _failed: str = field(default="", init=False)
    _stopped_at: float | None = field(default=None, init=False)

    def execute(self) -> None:
        """Make everything.

        Raises:
            Interrupted: the program was asked to stop; running training has saved its state.
            CrossmodError: a step failed; nothing new was begun after that.
        """
        for run in self.runs:
            run.folder.mkdir(parents=True, exist_ok=True)
            for step, text in run.plan.remarks:
                run.event("warning", step, text=text)
        try:
            self._submit()
            while self._working:
                ended = [self._take(event) for event in self.engine.wait(0.2)]
                self._stop_if_asked()
                if any(ended) and self._stopped_at is None:
                    self._submit()
        finally:
            self.engine.close()
        self._raise_failure()
        for run in self.runs:
            if run.ended:
                self.observer.note(f"stopped early at {run.ended.name}: {run.ended.ending}")
            run.finish()

    def _submit(self) -> None:
        """Hand over what can be made now and fits, first what most others wait for."""
        ready = [(run, step) for run in self.runs for step in self._surveyed(run)]
        tasks: list[Task] = []
        for run, step in sorted(ready, key=lambda pair: -pair[0].urgency[pair[1].key]):
            task = run.task(step)
            if step.key not in self._working and self.engine.takes(task, tasks):
                tasks.append(task)
                self._start(run, step)
        if tasks:
            self.engine.submit(tasks)

    def _raise_failure(self) -> None:
        if self._stopped_at is not None and self._made:
            self.observer.note(f"finished in this run and kept: {', '.join(self._made.values())}")
        if self._failed:
            self.observer.note(self._failed)
        if self._failure is not None:
            raise self._failure
        if self.stop_sign:
            raise Interrupted("the run was stopped", fix="rerun the same command to resume")

    def _start(self, run: Run, step: Step) -> None:
        run.event("started", step)
        self._working[step.key] = (run, step)
        self.observer.started(run, step)

    def _surveyed(self, run: Run) -> list[Step]:
        """What a run can make now; what it found in the store is noted once."""
        ready = run.survey()
        for step in run.reached:
            if (run.label, step.key) not in self._noted:
                self._noted.add((run.label, step.key))
                run.event("found", step)
                if step.key not in self._made:
                    self.observer.found(run, step)
        return ready

    def _take(self, event: Event) -> bool:
        """Pass an event on; returns whether a task ended."""
        if event.key not in self._working:
            return False
        run, step = self._working[event.key]
        if isinstance(event, Advance):
            self.observer.advanced(event)
        elif isinstance(event, Remark):
            run.event("warning" if event.warning else "log", step, text=event.text)
            if event.warning:
                self.observer.note(event.text)
        else:
            del self._working[event.key]
            self._conclude(run, step, event)
            return True
        return False

    def _conclude(self, run: Run, step: Step, outcome: Outcome) -> None:
        if outcome.damaged:
            self._begin_again(run, step, outcome.damaged)
        elif outcome.error is not None:
            self._fail(run, step, outcome)
        elif run.store.manifest(step.key) is None:
            text = "the engine reports success, but the store has no result"
            error = CrossmodError(text, where=f"step {step.name}")
            self._fail(run, step, Outcome(step.key, error=error))
        elif outcome.made:
            self._made[step.key] = step.name
            self._noted.add((run.label, step.key))
            run.event("finished", step, seconds=outcome.seconds)
            self.observer.finished(run, step, outcome.seconds)
        else:
            self.observer.left(step)

    def _begin_again(self, run: Run, step: Step, damaged: tuple[str, ...]) -> None:
        """Inputs were damaged: they are recomputed, then this step."""
        self.observer.left(step)
        names = {needed.key: needed.name for needed in step.inputs}
        for key in damaged:
            self._damaged[key] += 1
            for other in self.runs:
                other.forget(key)
            text = f"the stored result of {names[key]} is corrupted; recomputing it"
            run.event("warning", step, text=text)
            self.observer.note(text)
            if self._damaged[key] > ATTEMPTS:
                error = CrossmodError(
                    f"its result was corrupted {ATTEMPTS + 1} times in a row",
                    where=f"step {names[key]}",
                    fix="check the disk, or choose another folder with --store",
                )
                self._fail(run, step, Outcome(step.key, error=error))

    def _fail(self, run: Run, step: Step, outcome: Outcome) -> None:
        """Begin nothing new; running training saves its state, the first error is shown."""
        self.observer.left(step)
        error = outcome.error
        if isinstance(error, Interrupted):
            run.event("interrupted", step, error=str(error))
            self.observer.note(f"{step.name}: {error.what}")
            if self._stopped_at is not None:
                return
        else:
            run.event("failed", step, error=str(error), traceback=outcome.traceback)
            name = f"{run.label} {step.name}".strip()
            self._failed = self._failed or f"{name} failed; see {run.folder / EVENTS}"
        if self._failure is None and error is not None:
            error.add_note(outcome.traceback)
            self._failure = error
            self._stop()

    def _stop_if_asked(self) -> None:
        if self.stop_sign and self._stopped_at is None:
            self.observer.note("stopping after the next checkpoint; press Ctrl-C again to quit now")
            self._stop()
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > GRACE_S:
            self._working.clear()

    def _stop(self) -> None:
        self._stopped_at = time.monotonic()
        self.engine.stop()
