"""How wide the networks of each scale are and how long they learn; needs no torch.

"paper" is Shaham et al. 2019: all scales learn equally long, and channels double every few scales.
"fast" spends its time where lesions are redrawn: a lesion passes through the scales from the first
start scale on; those below only make images for them to learn on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from crossmod_singan_gba import SinganGbaOptions

BELOW, REDRAWING, WHOLE = 1, 2, 4
"""Quarters of `iterations` that "fast" gives to the scales below the first start scale and to
those from there on, and a whole."""

DOUBLINGS = 1
"""How often channels double with "fast": 64 are the most where the coarsest networks have 32."""


class ScalePlan(NamedTuple):
    """One scale.

    Attributes:
        width: channels of its networks.
        iterations: of which each is a few steps of both networks.
    """

    width: int
    iterations: int


@dataclass(frozen=True)
class Schedule:
    """What is learned one after the other.

    Attributes:
        scales: coarsest first.
        phase: iterations that divide those of every scale.
    """

    scales: tuple[ScalePlan, ...]
    phase: int

    @property
    def total(self) -> int:
        """Iterations of all scales."""
        return sum(scale.iterations for scale in self.scales)

    def place(self, number: int) -> tuple[int, int]:
        """The scale of an iteration, counted over all scales, and its number there."""
        for scale, plan in enumerate(self.scales):
            if number < plan.iterations:
                return scale, number
            number -= plan.iterations
        raise IndexError(number)


def schedule_of(options: SinganGbaOptions, scales: int) -> Schedule:
    """The schedule that a recipe asks for, for a pyramid of so many scales."""
    paper = options.schedule == "paper"
    phase = options.iterations if paper else max(1, round(options.iterations / WHOLE))
    plans = []
    for scale in range(scales):
        doubled = scale // options.width_doubles_every
        width = options.width << (doubled if paper else min(doubled, DOUBLINGS))
        quarters = BELOW if scale < options.first_start else REDRAWING
        iterations = phase if paper else quarters * phase
        plans.append(ScalePlan(min(width, options.max_width), iterations))
    return Schedule(tuple(plans), phase)
