"""What a run tells where no progress bar can be drawn: lines, as in a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmod.console import Terminal
from crossmod.console.state import state_lines

if TYPE_CHECKING:
    from crossmod.progress.state import RunState
    from crossmod.run.run import Run
    from crossmod.run.steps import Step
    from crossmod.run.task import Advance


class Lines:
    """Observes a run, and prints a line for each finished step.

    A notebook would put each line into an output of its own, and a bar needs widgets; so the lines
    go to its standard output.
    """

    def __init__(self) -> None:
        self._out = Terminal(force_jupyter=False, force_terminal=False)
        self._stored = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._stored:
            self.note(f"{self._stored} steps were already in the store")

    def found(self, run: Run, step: Step) -> None:
        """Count a step that was found in the store."""
        del run, step
        self._stored += 1

    def started(self, run: Run, step: Step) -> None:
        """A step begins; it is told of at its end."""

    def advanced(self, advance: Advance) -> None:
        """A step got on; `tell` says so now and then."""

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        """Print a line for a finished step."""
        name = f"{run.label} {step.name}".strip()
        self.note(f"✓ {run.number_of(step):>7}  {name:<40} {seconds:>7.1f} s")

    def left(self, step: Step) -> None:
        """A step was stopped."""

    def note(self, text: str) -> None:
        """Print a remark."""
        self._out.print(text, markup=False, soft_wrap=True)

    def tell(self, state: RunState) -> None:
        """Print how far the run is."""
        for line in state_lines(state):
            self.note(line)
