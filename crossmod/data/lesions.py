"""Measures of a labeled structure, the `where` filters of recipes over them, and rescaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from crossmod.data.cohorts import Case
from crossmod.data.volumes import FloatArray, LabelArray, Pair, Volume
from crossmod.errors import DataError, RecipeError
from crossmod.options import CenterName, CenterPattern, Fraction, Options, Positive

if TYPE_CHECKING:
    from crossmod.stages.base import ScanFacts

SHELL_VOXELS = 3
"""Width of the surroundings that `contrast` compares a structure with."""

SHIFT = 0.25
"""Share by which preprocessing may change a volume: more than it does for structures several voxels
across."""

ROUNDING = 1e-6
"""How far a value may leave [0, 1] by rounding alone."""


@dataclass(frozen=True)
class Lesion:
    """What can be said of one structure in one image.

    Attributes:
        volume_mm3: volume; 0 where the structure is absent.
        mean: mean intensity, in the units of the image ([0, 1] after preprocessing).
        std: standard deviation of the intensity inside.
        contrast: mean inside minus mean of a shell of 3 voxels around it.
    """

    volume_mm3: float
    mean: float
    std: float
    contrast: float


def measure(image: Volume, labels: LabelArray, label: int) -> Lesion:
    """Measure the structure with value ``label`` in ``labels`` ``(I, J, K)``."""
    from scipy import ndimage

    mask = labels == label
    if not mask.any():
        return Lesion(0.0, 0.0, 0.0, 0.0)
    values = image.data[0][mask]
    shell = ndimage.binary_dilation(mask, iterations=SHELL_VOXELS) & (labels == 0)
    around = float(image.data[0][shell].mean()) if shell.any() else float(values.mean())
    volume = float(mask.sum()) * float(np.prod(image.spacing_mm))
    mean = float(values.mean())
    return Lesion(volume, mean, float(values.std()), mean - around)


def components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected components of a mask ``(I, J, K)``, numbered from 1; 0 outside.

    Voxels belong together where they share a face, an edge or a corner, as in the helper of the
    authors of generative blending augmentation (the default of scikit-image).
    """
    from scipy import ndimage

    found, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    return np.asarray(found, dtype=np.int32)


def keep_largest(labels: LabelArray, label: int) -> LabelArray:
    """Leave only the largest of the `components` of ``label`` in a label map ``(I, J, K)``.

    The others become background.
    """
    parts = components(labels == label)
    sizes = np.bincount(parts.ravel())[1:]
    if len(sizes) < 2:
        return labels
    largest = 1 + int(np.argmax(sizes))
    return np.where((parts > 0) & (parts != largest), 0, labels).astype(labels.dtype)


End = Annotated[float, Field(strict=True, ge=-1e9, le=1e9)]
"""Where an interval ends."""


class Bounds(Options):
    """An open interval; a missing end does not bound."""

    above: End | None = None
    """Only values greater than this."""
    below: End | None = None
    """Only values less than this."""

    def contains(self, value: float) -> bool:
        """Whether a value lies inside."""
        too_low = self.above is not None and value <= self.above
        too_high = self.below is not None and value >= self.below
        return not (too_low or too_high)


class FitOn(Options):
    """Which cases a stage learns from."""

    center: CenterPattern | None = None
    """Only cases of this center; `*` stands for any letters, and alone for every center."""

    def keeps(self, case: Case) -> bool:
        """Whether a case is kept."""
        return self.center is None or fnmatch(case.center, self.center)


class Where(Options):
    """Which pairs a rule applies to; all conditions must hold."""

    center: CenterName | None = None
    """Only cases of this center."""
    volume_mm3: Bounds = Bounds()
    """Volume of the structure."""
    mean: Bounds = Bounds()
    """Mean intensity of the structure, in [0, 1]."""
    std: Bounds = Bounds()
    """Standard deviation of the intensity inside the structure, in [0, 1]."""
    contrast: Bounds = Bounds()
    """Mean intensity of the structure minus that of its surroundings."""

    def matches(self, pair: Pair, lesion: Lesion) -> bool:
        """Whether a pair whose structure measures ``lesion`` fulfills every condition."""
        if self.center is not None and pair.center != self.center:
            return False
        return lesion.volume_mm3 > 0 and all(
            getattr(self, name).contains(getattr(lesion, name))
            for name in ("volume_mm3", "mean", "std", "contrast")
        )


def distinct_numbers(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse a list that names a copy twice."""
    if len({f"{number:g}" for number in numbers}) < len(numbers):
        raise ValueError("list each number once")
    return numbers


class RescaleGroup(Options):
    """Lesions whose intensity is multiplied: which ones, and by what."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
    """Becomes part of the names of the new cases."""
    where: Where = Where()
    """Which pairs belong to the group; without conditions every pair that has the structure."""
    factors: Annotated[tuple[Positive, ...], AfterValidator(distinct_numbers)] = ()
    """Each factor makes one new pair: below 1 darkens, above 1 brightens (the paper's lambda)."""
    means: Annotated[tuple[Fraction, ...], AfterValidator(distinct_numbers)] = ()
    """Each makes one new pair whose lesion has this mean intensity, in [0, 1]: the factor follows
    from what the translator made of the lesion, which differs from one training to the next."""

    texture: Fraction = 1.0
    """Share of the differences inside the lesion that is kept: 1 keeps what the translator drew, as
    the paper does; less helps where it drew healthy tissue into the lesion."""

    @model_validator(mode="after")
    def _makes_something(self) -> Self:
        if not (self.factors or self.means):
            raise ValueError("needs factors or means")
        return self

    def changes(self, lesion: Lesion) -> dict[str, float]:
        """Suffix of the new case -> factor, for a lesion of the group."""
        by_factor = {f"{self.name}-x{factor:g}": factor for factor in self.factors}
        to_mean = {f"{self.name}-m{mean:g}": mean / max(lesion.mean, 1e-3) for mean in self.means}
        return by_factor | to_mean


GroupT = TypeVar("GroupT", bound=RescaleGroup)


def distinct_names(groups: tuple[GroupT, ...]) -> tuple[GroupT, ...]:
    """Validate that no two groups share a name: their new cases would collide."""
    if len({group.name for group in groups}) < len(groups):
        raise ValueError("two groups have the same name")
    return groups


def label_of(structure: str, classes: Mapping[str, int], where: str = "structure") -> int:
    """The label of a class name.

    Args:
        structure: a class name that an option holds. A recipe replaces an empty one by
            `evaluate.structure`; without a recipe, it stands for the first class.
        classes: class name -> label, as `Context.classes`.
        where: that option.

    Raises:
        RecipeError: the classes of the data do not have it.
    """
    structure = structure or next(iter(classes), "")
    if structure not in classes:
        raise RecipeError(
            f"there is no class {structure!r}",
            where=where,
            allowed=", ".join(classes),
            fix="name classes as in [data.classes]",
        )
    return classes[structure]


def match_groups(
    pairs: Iterable[Pair], groups: Sequence[GroupT], label: int, log: Callable[[str], None]
) -> Iterator[tuple[Pair, GroupT, dict[str, float]]]:
    """Yield every pair with every group that its structure ``label`` belongs to.

    The third item says what to make of it: suffix of the new case -> factor. At the end, ``log``
    is told how many pairs each group has matched, with a warning for a group without any.
    """
    matched, total = Counter[str](), 0
    for pair in pairs:
        total += 1
        lesion = measure(pair.image, pair.labels, label)
        for group in groups:
            if group.where.matches(pair, lesion):
                matched[group.name] += 1
                if changes := group.changes(lesion):  # guided groups leave out common kinds
                    yield pair, group, changes
    for group in groups:
        number = matched[group.name]
        log(
            f"group {group.name!r} matched {number} of {total} cases"
            if number
            else f"warning: group {group.name!r} matched none of {total} cases; nothing is made"
            " for it unless its 'where' is widened"
        )


def unmatched_groups(
    groups: Sequence[RescaleGroup], scans: Sequence[ScanFacts], structure: str
) -> Iterator[str]:
    """Yield a warning for each group to which no scan can belong, before anything is computed.

    Centers and volumes decide; mean, std and contrast follow from the translation. The volumes
    are those of the label maps as they are shipped, so bounds that are missed by less than
    `SHIFT` count as kept. A center without any scan is the core's to tell.

    Args:
        groups: an option called "groups".
        scans: those that the stage is applied to.
        structure: the class whose volume counts.
    """
    for group in groups:
        own = [scan for scan in scans if group.where.center in (None, scan.center)]
        if own and not any(_may_match(group.where, scan, structure) for scan in own):
            yield (
                f"warning: groups: group {group.name!r} matches none of {len(scans)} scans;"
                " nothing is made for it unless its 'where' is widened"
            )


def _may_match(where: Where, scan: ScanFacts, structure: str) -> bool:
    volume = scan.volumes_mm3.get(structure)
    if volume is None:
        return True
    near = (volume * (1 - SHIFT), volume, volume * (1 + SHIFT))
    return volume > 0 and any(map(where.volume_mm3.contains, near))


def rescale(pair: Pair, label: int, factor: float, texture: float = 1.0) -> FloatArray:
    """Multiply the intensity inside a structure: x (1 - y) + factor x y, clipped at 1.

    Equation (5) of Salle et al. 2024. The image has to lie in [0, 1]: where values can be
    negative, as after z-scoring, a factor above 1 would not brighten. With ``texture`` t below 1,
    x inside becomes m + t (x - m) first, m being its mean.

    Returns:
        The changed image, float32 ``(C, I, J, K)`` in [0, 1].

    Raises:
        DataError: the image leaves [0, 1].
    """
    image = pair.image.data
    low, high = float(image.min()), float(image.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise DataError(
            f"intensities run from {low:g} to {high:g}",
            where=pair.case,
            allowed="0 to 1",
            fix="rescale the image to [0, 1] in preprocessing",
        )
    inside = np.broadcast_to(pair.labels == label, image.shape)
    mean = image[inside].mean()
    changed = image.copy()
    changed[inside] = factor * (mean + texture * (image[inside] - mean))
    return np.clip(changed, 0, 1).astype(np.float32)
