"""Rounds of a race: all contestants take turns, and disturbed samples are taken again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from racing.contestants import CannotRun, Contestant, Sample

DISTURBED = 0.1
"""Share of the machine that others may use during a sample."""

TRIES = 3
"""Tries of a disturbed sample; the quietest is kept."""


@dataclass
class Result:
    """What a contestant did.

    Attributes:
        samples: one for each round.
        operations: of the work once; 0 where they were not counted.
        trouble: why it could not run.
    """

    samples: list[Sample] = field(default_factory=list)
    operations: float = 0.0
    trouble: str = ""

    @property
    def seconds(self) -> float:
        """The median."""
        return median(sample.seconds for sample in self.samples)

    @property
    def precision(self) -> str:
        """The number format it computed in."""
        return self.samples[-1].precision

    def ratios_to(self, other: Result) -> list[float]:
        """How many times as long the other one took, round by round."""
        pairs = zip(self.samples, other.samples, strict=True)
        return [theirs.seconds / own.seconds for own, theirs in pairs]


def race(
    contestants: Mapping[str, Contestant],
    rounds: int,
    seconds: float,
    counted: Sequence[str] = (),
    *,
    warm_up: bool = True,
) -> dict[str, Result]:
    """Let contestants take turns.

    Args:
        contestants: by name.
        rounds: turns of each that are kept.
        seconds: length of a turn, at least.
        counted: whose operations are counted, in a turn that comes first.
        warm_up: whether others have such a turn, too.
    """
    results = {name: Result() for name in contestants}
    with ExitStack() as stack:
        running = {name: stack.enter_context(one) for name, one in contestants.items()}
        for name in list(running):
            try:
                running[name].get_ready()
                if warm_up or name in counted:
                    first = running[name].turn(0, count=name in counted)
                    results[name].operations = first.operations
            except CannotRun as error:
                results[name].trouble = str(error)
                del running[name]
        for _ in range(rounds):
            for name in list(running):
                try:
                    results[name].samples.append(_quiet(running[name], seconds))
                except CannotRun as error:
                    results[name] = Result(trouble=str(error))
                    del running[name]
    return results


def _quiet(contestant: Contestant, seconds: float) -> Sample:
    """A sample during which others did little."""
    tries: list[Sample] = []
    while len(tries) < TRIES and not (tries and tries[-1].disturbance <= DISTURBED):
        tries.append(contestant.turn(seconds))
    return min(tries, key=lambda sample: sample.disturbance)
