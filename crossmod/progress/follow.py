"""Follow a run: tell how far it is, to a file and to whoever wants to hear it now and then."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from crossmod.errors import CrossmodError, Interrupted, MachineError
from crossmod.progress.left import TimeLeft
from crossmod.progress.state import RunEnd, RunState, write_state
from crossmod.progress.working import Working
from crossmod.run.api import Experiment
from crossmod.run.run import Run
from crossmod.run.steps import Step
from crossmod.run.task import Advance
from crossmod.stages.guard.words import described

WRITE_EVERY_S = 2.0
TELL_EVERY_S = 60.0
MOST_NOTES = 5


class Follower:
    """Observes a run; while its block lasts, it tells how far the run is.

    Args:
        experiment: what is done.
        expected: key -> seconds, where they are known.
        workers: steps made at the same time.
        tell: called once a minute.
    """

    def __init__(
        self,
        experiment: Experiment,
        expected: Mapping[str, float],
        workers: int,
        tell: Callable[[RunState], None] = lambda state: None,
    ) -> None:
        steps = {step.key: step for plan in experiment.plans for step in plan.steps}
        self._folder: Path = experiment.outputs.folder
        self._title = experiment.recipe.title
        self._left = TimeLeft(steps.values(), expected, workers)
        self._tell, self._began = tell, time.time()
        self._done: set[str] = {key for key, step in steps.items() if not step.stored}
        self._working: dict[str, Working] = {}
        self._notes: deque[str] = deque(maxlen=MOST_NOTES)
        self._state: RunEnd = "working"
        self._error = ""
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_telling, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, *unused: object) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self._state = "finished"
        elif isinstance(error, Interrupted | KeyboardInterrupt):
            self._state = "interrupted"
        else:
            self._state = "failed"
            self._error = str(error) if isinstance(error, CrossmodError) else described(error)
        self._write()

    def found(self, run: Run, step: Step) -> None:
        """The store has a step already."""
        del run
        with self._lock:
            self._done.add(step.key)

    def started(self, run: Run, step: Step) -> None:
        """A step was handed to the engine."""
        name = f"{run.label} {step.name}".strip()
        with self._lock:
            expected = self._left.of(step)
            self._working[step.key] = Working(name, run.number_of(step), expected, step.is_learner)

    def advanced(self, advance: Advance) -> None:
        """A step got on, or noted numbers."""
        with self._lock:
            self._working[advance.key].advanced(advance)

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """A step is done."""
        del run
        self.left(step)
        with self._lock:
            self._done.add(step.key)
            self._left.took(step, seconds)

    def left(self, step: Step) -> None:
        """A step has ended or was stopped."""
        with self._lock:
            self._working.pop(step.key, None)

    def note(self, text: str) -> None:
        """Something worth a line."""
        with self._lock:
            self._notes.append(text)

    @property
    def state(self) -> RunState:
        """How far the run is."""
        with self._lock:
            lefts = {key: one.left_s for key, one in self._working.items()}
            for key, seconds in lefts.items():
                if seconds is not None and self._working[key].is_learner:
                    spent = time.time() - self._working[key].began
                    self._left.guess(self._left.steps[key], spent + seconds)
            left = self._left.whole(self._done, lefts)
            return RunState(
                title=self._title,
                state=self._state,
                host=platform.node(),
                process=os.getpid(),
                began=self._began,
                told=time.time(),
                done=len(self._done),
                steps=len(self._left.steps),
                left_s=left.seconds,
                unknown=left.unknown,
                working=tuple(one.state for one in self._working.values()),
                notes=tuple(self._notes),
                error=self._error,
            )

    def _keep_telling(self) -> None:
        told = time.monotonic()
        while not self._ended.wait(WRITE_EVERY_S):
            self._write()
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                self._tell(self.state)

    def _write(self) -> None:
        with suppress(MachineError, OSError):  # a full disk; the run itself will say so
            if self._folder.is_dir():
                write_state(self._folder, self.state)
