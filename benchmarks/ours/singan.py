"""The SinGAN of generative blending: the training on one slice, by its first iterations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from crossmod_singan_gba import SinganGba, SinganGbaOptions

from crossmod.store.checkpoints import Checkpoints
from ours.scene import cohort, context
from racing.turns import Turns

GROUP = {"name": "all", "factors": [1.2]}


class FirstIterations(Checkpoints):
    """Lets a training do a few iterations of each scale, and says what all would have taken.

    Attributes:
        kept: iterations of each scale; the first one is not looked at.
        whole_seconds: of all iterations, by the median of those of each scale.
        share: iterations of the whole training as a multiple of those done.
    """

    def __init__(self, kept: int) -> None:
        super().__init__(Path.cwd() / "none", Path.cwd(), minutes=math.inf)
        self.kept, self.whole_seconds, self.share = kept, 0.0, 1.0

    def steps(self, start: int, total: int, phase: int | None) -> Iterator[int]:
        """The first steps of each phase."""
        done, length = 0, phase or total
        for begin in range(start, total, length):
            end, marks = min(begin + length, total), []
            for step in range(begin, min(begin + self.kept, end)):
                marks.append(time.perf_counter())
                yield step
                done += 1
            marks.append(time.perf_counter())
            spent = [after - before for before, after in pairwise(marks)]
            self.whole_seconds += (end - begin) * median(spent[1:] or spent)
        self.share = total / done


def fit(
    turns: Turns, threads: int, side: int, schedule: str, kept: int = 3, **options: Any
) -> None:
    """The training of all scales on a square slice.

    Args:
        turns: one for each training.
        threads: cores to use.
        side: pixels of the slice.
        schedule: "paper", which is the only one of early checkouts, or another.
        kept: iterations of each scale that are done.
        options: that differ from those of the paper.
    """
    if schedule != "paper" or "schedule" in SinganGbaOptions.model_fields:
        options["schedule"] = schedule
    cases = cohort("slice", (side, side, 3), 1)
    stage = SinganGba(
        SinganGbaOptions.model_validate(
            {"structure": "tumor", "groups": [GROUP], "start_scales": [1]}
            | {"training_case": "case-0", "training_slice": 1}
            | options
        )
    )
    ctx = context(turns, threads, lanes=2)
    for _ in turns:
        first = FirstIterations(kept)
        stage.fit(cases, cases, replace(ctx, checkpoints=first))
        turns.took(first.whole_seconds, first.share)
