"""How good a translator is, judged without any label of the target.

A translator is drawn by its seed as a ticket is: the same options give good and bad ones. Five
figures in [0, 1] judge one, all from what the run has anyway:

- survival: what translations show of labeled structures beyond their place, as a share of what the
  source shows (`crossmod.scores.recovery`).
- agreement: small segmenters, each learned from the translations of other patients, outline real
  target scans; pairwise Dice, the figure with the best evidence under shift (Zenk et al.,
  Comparative benchmarking of failure detection methods in medical image segmentation, Medical
  Image Analysis 2025).
- volumes: 1 minus the Wasserstein distance between the volumes outlined there and those of source
  labels, in mean volumes of the source.
- likeness: 1 minus the Wasserstein distance between translations and target scans of intensities
  and edges around the structures, in standard deviations of the target.
- place: 1 minus half the median shift of translations against their sources, in voxels.

The score is their geometric mean, so that none makes up for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Case, Cohort, Volume
from crossmod.scores.recovery import POSITION, Members, Recovery, recover
from crossmod.scores.shift import shift_mm
from crossmod.scores.survival import ERASED, SHOWN, origin

FIGURES = ("survival", "agreement", "volumes", "likeness", "place")
"""What the score is made of."""

FAR_VOXELS = 2.0
"""Translations that lie this far off their sources are worth nothing."""

SHARES = np.linspace(0.005, 0.995, 100)
"""Quantiles that distributions are compared at."""

Found = Mapping[tuple[str, str], Recovery]


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
        """The geometric mean of the figures; 0 if it must not be used or nothing is known."""
        if self.fault or not self.figures:
            return 0.0
        return float(np.prod(list(self.figures.values())) ** (1 / len(self.figures)))


def judge(
    source: Cohort,
    translated: Cohort,
    target: Cohort,
    progress: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> Judgment:
    """Judge the translations of one translator.

    Args:
        source: labeled images.
        translated: their translations, of the same names or ``{name}+{suffix}``.
        target: real scans; labels of them are not looked at.
        progress: wraps the target scans.
    """
    before, members = recover(source), Members.of(translated)
    after = members.recovered() if members else {}
    figures, details = _survival(source, before, after)
    figures |= _place(source, translated)
    if members:
        seen = [_seen(case.volume(), members) for case in progress(target.cases)]
        more, parts = _agreement(list(source.classes), [agreed for agreed, _, _ in seen])
        figures, details = figures | more, details | parts
        more, parts = _volumes(source, [volumes for _, volumes, _ in seen])
        figures, details = figures | more, details | parts
        figures |= _likeness(translated, target, members, [rows for _, _, rows in seen])
    fault = ""
    if figures.get("survival", 1.0) < ERASED:
        fault = f"shows {figures['survival']:.0%} of what the source shows of labeled structures"
    return Judgment(figures, details, fault)


def _survival(
    source: Cohort, before: Found, after: Found
) -> tuple[dict[str, float], dict[str, float]]:
    """The mean share over structures of what the source shows; those it hides are left out."""
    shares, details = [], {}
    for name in source.classes:
        seen, kept = (_beyond_place(found, name) for found in (before, after))
        if kept is not None:
            dice = [one.dice for (_, structure), one in after.items() if structure == name]
            details[f"recovery_{name}"] = float(np.mean(dice))
        if seen is not None and kept is not None and seen > SHOWN:
            shares.append(min(max(kept / seen, 0.0), 1.0))
    return ({"survival": float(np.mean(shares))} if shares else {}), details


def _beyond_place(found: Found, name: str) -> float | None:
    """Mean Dice of a structure beyond that of knowing its place; None where it was nowhere."""
    each = [
        one.dice - one.by_position for (_, structure), one in found.items() if structure == name
    ]
    return float(np.mean(each)) if each else None


def _place(source: Cohort, translated: Cohort) -> dict[str, float]:
    """How well translations lie on their sources; nothing where there are no edges."""
    cases = {case.case: case for case in source.cases}
    moved = []
    for case in translated.cases:
        first, image = origin(case.case, cases).volume(), case.volume()
        moved.append(np.linalg.inv(first.affine[:3, :3]) @ shift_mm(first, image))
    known = [one for one in moved if np.isfinite(one).all()]
    if not known:
        return {}
    voxels = float(np.abs(np.median(known, axis=0)).max())
    return {"place": max(0.0, 1 - voxels / FAR_VOXELS)}


def _seen(
    image: Volume, members: Members
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What members find in a real scan.

    Returns:
        Mean pairwise Dice of each structure, its mean volume in mm3, and quantiles of the
        features ``(quantiles, features)``.
    """
    rows = members.rows(_on_grid(image, members.cohort.cases[0].volume().grid))
    outlines = members.outlines(rows)
    sizes = outlines.sum(axis=1)
    pairs = [
        2 * (outlines[i] & outlines[j]).sum(axis=0) / np.maximum(sizes[i] + sizes[j], 1)
        for i, j in combinations(range(len(outlines)), 2)
    ]
    mm3 = float(np.prod(image.spacing_mm)) * float(np.prod(members.field.strides))
    return np.mean(pairs, axis=0), sizes.mean(axis=0) * mm3, _quantiles(rows)


def _quantiles(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """The distribution of every feature but the position."""
    found: NDArray[np.float64] = np.quantile(rows[:, POSITION:], SHARES, axis=0)
    return found


def _on_grid(image: Volume, shape: tuple[int, ...]) -> Volume:
    """A scan with as many voxels as the translations, its middle on theirs; edges go on."""
    data = image.data
    for axis, (has, wanted) in enumerate(zip(image.grid, shape, strict=True), start=1):
        before = (wanted - has) // 2
        if wanted > has:
            around = [(0, 0)] * 4
            around[axis] = (before, wanted - has - before)
            data = np.pad(data, around, mode="edge")
        elif wanted < has:
            data = np.take(data, range(-before, wanted - before), axis=axis)
    return image.with_data(data)


def _agreement(
    names: Sequence[str], agreed: Sequence[NDArray[np.float64]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean over target scans and structures; what no member finds counts as 0."""
    each = np.mean(agreed, axis=0).tolist()
    details = {f"agreement_{name}": value for name, value in zip(names, each, strict=True)}
    return {"agreement": float(np.mean(each))}, details


def _volumes(
    source: Cohort, found: Sequence[NDArray[np.float64]]
) -> tuple[dict[str, float], dict[str, float]]:
    """How near the volumes in target scans are to those in the source."""
    near, details = [], {}
    for n, (name, label) in enumerate(source.classes.items()):
        known = [volume for case in source.cases if (volume := _mm3(case, label))]
        if known:
            volumes = [float(one[n]) for one in found]
            apart = np.abs(np.quantile(volumes, SHARES) - np.quantile(known, SHARES)).mean()
            near.append(max(0.0, 1 - float(apart) / float(np.mean(known))))
            details[f"volume_ratio_{name}"] = float(np.mean(volumes) / np.mean(known))
    return ({"volumes": float(np.mean(near))} if near else {}), details


def _mm3(case: Case, label: int) -> float:
    pair = case.pair()
    return float((pair.labels == label).sum()) * float(np.prod(pair.image.spacing_mm))


def _likeness(
    translated: Cohort, target: Cohort, members: Members, found: Sequence[NDArray[np.float64]]
) -> dict[str, float]:
    """How near intensities and edges of translations are to those of target scans, by center."""
    ours = [(c.center, _quantiles(members.rows(c.volume()))) for c in translated.cases]
    theirs = [(c.center, one) for c, one in zip(target.cases, found, strict=True)]
    both = {center for center, _ in ours} & {center for center, _ in theirs}
    apart = []
    for center in sorted(both) or [None]:
        made, real = (
            np.mean([one for at, one in each if center in (None, at)], axis=0)
            for each in (ours, theirs)
        )
        spread = np.maximum(real.std(axis=0), 1e-6)
        apart.append(float((np.abs(made - real).mean(axis=0) / spread).mean()))
    return {"likeness": max(0.0, 1 - float(np.mean(apart)))}
