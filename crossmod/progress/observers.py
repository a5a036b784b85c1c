"""Several observers of a run as one."""

from __future__ import annotations

from crossmod.run.run import Run
from crossmod.run.schedule import Observer
from crossmod.run.steps import Step
from crossmod.run.task import Advance


class Observers:
    """Passes on all events; without observers it is silent."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def found(self, run: Run, step: Step) -> None:
        """The store has a step already."""
        for one in self.observers:
            one.found(run, step)

    def started(self, run: Run, step: Step) -> None:
        """A step was handed to the engine."""
        for one in self.observers:
            one.started(run, step)

    def advanced(self, advance: Advance) -> None:
        """A step got on, or noted numbers."""
        for one in self.observers:
            one.advanced(advance)

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """A step is done."""
        for one in self.observers:
            one.finished(run, step, seconds)

    def left(self, step: Step) -> None:
        """A step was stopped before it was done."""
        for one in self.observers:
            one.left(step)

    def note(self, text: str) -> None:
        """Something worth a line."""
        for one in self.observers:
            one.note(text)
