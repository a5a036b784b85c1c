"""How good a translator is, judged without any label of the target.

A seed draws a translator as one draws a ticket: the same options give good and bad ones. Six
figures in [0, 1] judge it, all from what a run has anyway. Two of them make the score, their
geometric mean:

- agreement: small segmenters, each learned from the translations of other patients, outline real
  target scans; mean pairwise Dice. Under shift this has the best evidence of all such figures
  (Zenk et al., Comparative benchmarking of failure detection methods in medical image
  segmentation, Medical Image Analysis 2025).
- consensus: what most of them outline there against what those of each other try do; mean Dice.
  Translators that are right outline the same, those that are wrong are wrong each in its own way.

The others tell what is wrong; none of them goes with Dice on every cohort
(docs/explanation/without-labels.md):

- survival: what translations show of labeled structures beyond their place, as a share of what the
  source shows (see `crossmod.scores.recovery`).
- volumes: what small segmenters outline in target scans against what they outline in translations
  of source patients they have not seen: the smaller over the larger, summed over the quantiles of
  both.
- likeness: intensities and edges around the structures, translations against target scans: 1
  minus the Wasserstein distance in standard deviations of the target, by center.
- place: 1 minus half the median shift of translations against their sources, in voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cases import centers_to_compare
from crossmod.data.cohorts import Cohort
from crossmod.data.volumes import Volume
from crossmod.scores.features import POSITION, Floats
from crossmod.scores.recovery import HeldOut, Members, Progress, Recovery
from crossmod.scores.shift import in_voxels, median_shift, on_grid, shift_mm
from crossmod.scores.survival import SHOWN, origin

SCORED = ("agreement", "consensus")
"""What the score is made of."""

FIGURES = (*SCORED, "survival", "volumes", "likeness", "place")
"""All that is measured."""

COLLAPSED = 0.1
"""Translations that show less than this share of what their sources show, or differ from patient
to patient by less than this share of what these do, are not used. Real T2 scans of the embedded
cohort show a quarter."""

FAR_VOXELS = 2.0
"""Translations that lie this far off their sources are worth nothing."""

SHARES = np.linspace(0.005, 0.995, 100)
"""Quantiles that distributions are compared at."""


@dataclass(frozen=True)
class Judgment:
    """What is known of a translator.

    Attributes:
        figures: those of `FIGURES` that could be measured, in [0, 1].
        details: what they are made of, by structure.
        fault: why it must not be used; empty if it may.
    """

    figures: Mapping[str, float]
    details: Mapping[str, float]
    fault: str = ""

    @property
    def score(self) -> float:
        """The geometric mean of agreement and consensus; 0 if it must not be used.

        Of all figures where neither could be measured.
        """
        known = {name: value for name, value in self.figures.items() if name in SCORED}
        values = list((known or self.figures).values())
        return float(np.prod(values) ** (1 / len(values))) if values and not self.fault else 0.0


Outlines = NDArray[np.bool_]
"""What most small segmenters outline in real scans ``(scans, places, structures)``."""


class Ticket(NamedTuple):
    """What one translator is known by: its judgment, and outlines if any could be made."""

    judgment: Judgment
    outlines: Outlines | None


def compared(tickets: Sequence[Ticket]) -> list[Judgment]:
    """The judgments of tries of one translator, with their consensus.

    Args:
        tickets: judged on the same scans; those that must not be used take no part.
    """
    found = [ticket.judgment for ticket in tickets]
    sound = {
        n: ticket.outlines
        for n, ticket in enumerate(tickets)
        if ticket.outlines is not None and not ticket.judgment.fault
    }
    dice = {(n, m): _dice(sound[n], sound[m]).mean() for n, m in combinations(sound, 2)}
    for n in sound if dice else ():
        consensus = float(np.mean([value for pair, value in dice.items() if n in pair]))
        found[n] = replace(found[n], figures={**found[n].figures, "consensus": consensus})
    return found


def judge(
    source: Cohort,
    translated: Cohort,
    target: Cohort,
    progress: Progress = iter,
) -> Ticket:
    """Judge the translations of one translator; `compared` adds the consensus of several.

    Args:
        source: labeled images.
        translated: their translations, of the same names or ``{name}+{suffix}``.
        target: real scans; labels of them are not looked at.
        progress: wraps the cases of each.
    """
    figures = _place(source, translated)
    before, members = Members.of(source), Members.of(translated)
    if before is None or members is None or not target.cases:
        return Ticket(Judgment(figures, {}), None)
    names = list(source.classes)
    given = [_Seen.of(one, before) for one in before.held_out(progress)]
    made = [_Seen.of(one, members) for one in members.held_out(progress)]
    real = [_Real.of(case.volume(), members) for case in progress(target.cases)]
    shares, details = _survival(names, given, made)
    if shares:
        figures["survival"] = float(np.mean(shares))
    agreed = np.mean([one.agreement for one in real], axis=0)
    figures["agreement"] = float(agreed.mean())
    details |= _named("agreement", names, agreed)
    found, expected = (np.array([one.mm3 for one in each]) for each in (real, made))
    figures["volumes"] = float(np.mean(_overlap(found, expected)))
    ratios = found.mean(axis=0) / np.maximum(expected.mean(axis=0), 1e-6)
    details |= _named("volume_ratio", names, ratios)
    figures["likeness"] = _likeness(made, real, target)
    fault = _fault(figures, _variety(made) / _variety(given))
    outlines = np.stack([one.outlines for one in real])
    return Ticket(Judgment(figures, details, fault), outlines)


@dataclass(frozen=True)
class _Seen:
    """A labeled image in the eyes of the member that has not learned from its patient."""

    center: str
    recoveries: Mapping[tuple[str, str], Recovery]
    mm3: NDArray[np.float64]
    quantiles: Floats
    intensities: Floats

    @classmethod
    def of(cls, one: HeldOut, members: Members) -> _Seen:
        return cls(
            one.case.center,
            one.recoveries(members.cohort.classes),
            one.found.sum(axis=0) * _mm3(one.case.volume(), members),
            _quantiles(one.rows),
            one.rows[:, POSITION],
        )


@dataclass(frozen=True)
class _Real:
    """What members find in a real scan, structure by structure."""

    agreement: NDArray[np.float64]
    mm3: NDArray[np.float64]
    quantiles: Floats
    outlines: NDArray[np.bool_]

    @classmethod
    def of(cls, image: Volume, members: Members) -> _Real:
        rows = members.rows(on_grid(image, members.cohort.cases[0].volume().grid))
        outlines = members.outlines(rows)
        dice = [_dice(one, other) for one, other in combinations(outlines, 2)]
        mm3 = outlines.sum(axis=1).mean(axis=0) * _mm3(image, members)
        most = outlines.mean(axis=0) >= 0.5
        return cls(np.mean(dice, axis=0), mm3, _quantiles(rows), most)


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of outlines ``(..., places, structures)``; 0 where both are empty: nothing agrees there."""
    both, sizes = (one & other).sum(axis=-2), one.sum(axis=-2) + other.sum(axis=-2)
    found: NDArray[np.float64] = 2 * both / np.maximum(sizes, 1)
    return found


def _mm3(image: Volume, members: Members) -> float:
    """What one place stands for."""
    return float(np.prod(image.spacing_mm) * np.prod(members.field.strides))


def _quantiles(rows: Floats) -> Floats:
    """The distribution of every feature but the position ``(quantiles, features)``."""
    found: Floats = np.quantile(rows[:, POSITION:], SHARES, axis=0)
    return found


def _survival(
    names: Sequence[str], given: Sequence[_Seen], made: Sequence[_Seen]
) -> tuple[list[float], dict[str, float]]:
    """For each structure that the source shows, the share that is left; and what is recovered."""
    shares, details = [], {}
    for name in names:
        before, after = (_recoveries(name, each) for each in (given, made))
        if not (before and after):
            continue
        details[f"recovery_{name}"] = float(np.mean([one.dice for one in after]))
        shown, left = (
            float(np.mean([one.dice - one.by_position for one in each])) for each in (before, after)
        )
        if shown > SHOWN:
            shares.append(min(max(left / shown, 0.0), 1.0))
    return shares, details


def _recoveries(name: str, seen: Sequence[_Seen]) -> list[Recovery]:
    return [r for one in seen for (_, structure), r in one.recoveries.items() if structure == name]


def _named(what: str, names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{what}_{name}": float(value) for name, value in zip(names, values, strict=True)}


def _overlap(found: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much two distributions of volumes ``(cases, structures)`` share, in [0, 1]."""
    one, other = (np.quantile(each, SHARES, axis=0) for each in (found, expected))
    larger = np.maximum(one, other).sum(axis=0)
    shared: NDArray[np.float64] = np.minimum(one, other).sum(axis=0) / np.maximum(larger, 1e-6)
    return shared


def _likeness(made: Sequence[_Seen], real: Sequence[_Real], target: Cohort) -> float:
    """How near translations are to target scans; of each center, or of all where none has both."""
    ours = [(one.center, one.quantiles) for one in made]
    theirs = [(c.center, one.quantiles) for c, one in zip(target.cases, real, strict=True)]
    apart = []
    for centers in centers_to_compare((c for c, _ in ours), (c for c, _ in theirs)):
        mean, aim = (
            np.mean([one for center, one in each if center in centers], axis=0)
            for each in (ours, theirs)
        )
        spread = np.maximum(aim.std(axis=0), 1e-6)
        apart.append(float((np.abs(mean - aim).mean(axis=0) / spread).mean()))
    return max(0.0, 1 - float(np.mean(apart)))


def _place(source: Cohort, translated: Cohort) -> dict[str, float]:
    """How well translations lie on their sources; nothing where there are no edges."""
    cases = {case.case: case for case in source.cases}
    moved = []
    for case in translated.cases:
        first, image = origin(case.case, cases).volume(), case.volume()
        moved.append(in_voxels(first, shift_mm(first, image)))
    median = median_shift(moved)
    if median is None:
        return {}
    voxels = float(np.abs(median).max())
    return {"place": max(0.0, 1 - voxels / FAR_VOXELS)}


def _variety(seen: Sequence[_Seen]) -> float:
    """By how much images differ from case to case, where they are looked at."""
    return float(np.std([one.intensities for one in seen], axis=0).mean()) + 1e-9


def _fault(figures: Mapping[str, float], variety: float) -> str:
    """Why a translator must not be used."""
    if variety < COLLAPSED:
        return f"collapsed: images of different patients differ by {variety:.0%} of what they did"
    left = figures.get("survival", 1.0)
    if left < COLLAPSED:
        return f"collapsed: shows {left:.0%} of what the source shows of labeled structures"
    return ""
