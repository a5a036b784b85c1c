"""A step at work: how fast it is, what it measured last, and how long it still takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from crossmod.data.curves import measured
from crossmod.progress.state import StepState
from crossmod.run.task import Advance

MOST_POINTS = 40
"""Of a curve in a terminal."""

SURE_SHARE = 0.05
"""Of what a loop had to do when it began or was resumed; then its speed says how long it takes."""


def begins_loop(advance: Advance, last: Advance | None) -> bool:
    """Whether a step has begun another loop, perhaps in its middle: a training may be resumed."""
    return last is None or advance.label != last.label or advance.done < last.done


@dataclass
class Working:
    """A step at work.

    Attributes:
        name: with the variant and seed before it.
        number: its place in the plan.
        expected_s: how long such a step took before; None is unknown.
        is_learner: whether most of its time is one loop, its training.
    """

    name: str
    number: str
    expected_s: float | None
    is_learner: bool
    began: float = field(default_factory=time.time)
    _last: Advance | None = None
    _loop_began: float = 0.0
    _loop_start: int = 0
    _values: dict[str, float] = field(default_factory=dict)
    _curve: list[float] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def advanced(self, advance: Advance) -> None:
        """It got on, or noted numbers."""
        if advance.values:
            self._measured(measured(advance.values))
            return
        if begins_loop(advance, self._last):
            self._loop_began, self._loop_start = time.time(), advance.done
        self._last = advance

    def _measured(self, values: dict[str, float]) -> None:
        self._values |= values
        named = next(iter(self._values), None)
        if named not in values:
            return
        if self._seen % self._every == 0:
            self._curve.append(values[named])
        self._seen += 1
        if len(self._curve) > MOST_POINTS:
            self._curve, self._every = self._curve[::2], 2 * self._every

    @property
    def speed(self) -> float | None:
        """Items a second of the loop at work; None where it has just begun."""
        spent = time.time() - self._loop_began
        made = self._last.done - self._loop_start if self._last else 0
        return made / spent if made > 0 and spent > 0 else None

    @property
    def left_s(self) -> float | None:
        """Until the step is done; None where that is not known."""
        speed, last = self.speed, self._last
        if speed and last and last.total and self._tells(last):
            return (last.total - last.done) / speed
        if self.expected_s is None:
            return None
        return max(1.0, self.expected_s - (time.time() - self.began))

    def _tells(self, last: Advance) -> bool:
        """Whether the loop at work says how long the step takes."""
        whole = self.is_learner or self.expected_s is None
        start = self._loop_start
        return whole and last.done - start >= SURE_SHARE * ((last.total or 0) - start)

    @property
    def state(self) -> StepState:
        """For people who watch."""
        last = self._last
        return StepState(
            name=self.name,
            number=self.number,
            began=self.began,
            done=last.done if last else 0,
            total=last.total if last else None,
            loop=last.label if last else "",
            item=last.item if last else "",
            speed=self.speed,
            left_s=self.left_s,
            values=self._values,
            curve=tuple(self._curve),
        )
