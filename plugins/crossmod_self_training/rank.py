"""The cases of a round compared with each other: how many are kept, and how much each counts."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crossmod_self_training.trust import Judged

if TYPE_CHECKING:
    from crossmod_self_training import SelfTrainingOptions


def ranked(
    judged: Iterable[Judged], options: SelfTrainingOptions, structure: str, number: int
) -> Iterator[Judged]:
    """Drop the least trusted of a round, and let the others count by their rank.

    Trust is the agreement of the folds on the structure; where it is equal, the mean probability
    inside the structure. A case in which nothing was found comes last: that folds agree on nothing
    says little. Images are not read, and label maps wait compressed.

    Args:
        judged: every case of the round.
        options: what the recipe says.
        structure: name of the class that trust is in.
        number: of the round, from 1.
    """
    waiting = [_Waiting.of(one) for one in judged]
    passed = [n for n, one in enumerate(waiting) if not one.judged.why]
    passed.sort(key=lambda n: _trust(waiting[n].judged, structure), reverse=True)
    shares = options.shares or (1.0,)
    share = shares[min(number, len(shares)) - 1]
    taken = math.ceil(round(share * len(passed), 6))  # 0.7 * 10 is a little more than 7
    why = dict.fromkeys(passed[taken:], f"among the least trusted, {share:.0%} are kept")
    fall = (1 - options.lowest_weight) / max(taken - 1, 1)
    weights = {n: 1 - fall * rank for rank, n in enumerate(passed[:taken])}
    for n, one in enumerate(waiting):
        found = one.unpacked()
        pair = replace(found.pair, weight=weights.get(n, 1.0))
        yield replace(found, pair=pair, why=found.why or why.get(n, ""))


def _trust(judged: Judged, structure: str) -> tuple[float, float]:
    figures = judged.figures
    if not figures[f"volume_mm3_{structure}"]:
        return -1.0, 0.0
    return figures.get(f"agreement_{structure}", 0.0), figures["confidence"]


NOTHING = np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class _Waiting:
    """What was judged, with its maps ``shape`` compressed."""

    judged: Judged
    shape: tuple[int, ...]
    labels: bytes
    ignore: bytes

    @classmethod
    def of(cls, judged: Judged) -> _Waiting:
        pair = judged.pair
        ignore = b"" if pair.ignore is None else zlib.compress(pair.ignore.tobytes(), 1)
        labels = zlib.compress(pair.labels.tobytes(), 1)
        light = replace(judged, pair=replace(pair, labels=NOTHING, ignore=None))
        return cls(light, pair.labels.shape, labels, ignore)

    def unpacked(self) -> Judged:
        labels = np.frombuffer(zlib.decompress(self.labels), np.uint8).reshape(self.shape)
        ignore = None
        if self.ignore:
            ignore = np.frombuffer(zlib.decompress(self.ignore), bool).reshape(self.shape)
        pair = replace(self.judged.pair, labels=labels, ignore=ignore)
        return replace(self.judged, pair=pair)
