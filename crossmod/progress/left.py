"""How long a run will take from here: what its steps took before, and in this run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crossmod.cost.measured import work_of
from crossmod.run.steps import Step


class Left(NamedTuple):
    """The time left.

    Attributes:
        seconds: as far as it is known.
        unknown: steps of which it is not.
    """

    seconds: float
    unknown: int


class TimeLeft:
    """Learns how long steps take.

    Args:
        steps: all steps, each once; inputs come before what needs them.
        expected: key -> seconds, where results of earlier runs say so.
        workers: steps made at the same time.
    """

    def __init__(self, steps: Iterable[Step], expected: Mapping[str, float], workers: int) -> None:
        self.steps = {step.key: step for step in steps}
        self.expected, self.workers = dict(expected), workers
        self._took: dict[str, float] = {}
        self._guessed: dict[str, float] = {}

    def took(self, step: Step, seconds: float) -> None:
        """A step is done: others that do the same work will take as long."""
        self._took[_work(step)] = seconds

    def guess(self, step: Step, seconds: float) -> None:
        """A training at work seems to take so long; others may, too."""
        self._guessed[_work(step)] = seconds

    def of(self, step: Step) -> float | None:
        """How long a step takes; None where nobody knows."""
        work = _work(step)
        known = self._took.get(work, self.expected.get(step.key))
        return self._guessed.get(work) if known is None else known

    def whole(self, done: Iterable[str], left: Mapping[str, float | None]) -> Left:
        """The time until all steps are done.

        No less than the longest chain of steps that wait for each other, and no less than all of
        them shared out to the workers.

        Args:
            done: keys of the steps that are done.
            left: key -> seconds left, of the steps at work.
        """
        gone = set(done)
        spans = {
            key: left[key] if key in left else self.of(step)
            for key, step in self.steps.items()
            if key not in gone
        }
        chains: dict[str, float] = {}
        for key, span in spans.items():
            before = [chains[one.key] for one in self.steps[key].inputs if one.key in chains]
            chains[key] = (span or 0.0) + max(before, default=0.0)
        shared = sum(span or 0.0 for span in spans.values()) / max(1, self.workers)
        unknown = sum(span is None for span in spans.values())
        return Left(max(shared, max(chains.values(), default=0.0)), unknown)


def _work(step: Step) -> str:
    """What decides how long a step takes, for the same number of cases."""
    kind = type(step).__name__
    return json.dumps([kind, work_of(step.content)], sort_keys=True) if step.who else kind
