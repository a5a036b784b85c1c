"""Groups of lesions to rescale: by lists that a recipe holds, or guided by real lesions.

The core fills a group that is guided with what each lesion gets before a stage sees its options. A
plugin needs nothing of its own for it: groups in an option `groups`, of the class that an option
`structure` names, applied by `match_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from crossmod.data import lesions
from crossmod.data.cohorts import Cohort
from crossmod.data.coverage import Points, Sample, choose, figures_of, measured, wasserstein
from crossmod.data.lesions import Lesion, label_of
from crossmod.errors import PluginError
from crossmod.options import Fraction, Options, OptionsT, Positive

GUIDED = "guided"

VERSION = 2
"""Of the choice of copies; raise it when a change gives others."""

LEVELS = 15
"""Values that a guided group chooses from for each lesion: quantiles of the real lesions."""

MOST = 2
"""How many times the mean number of copies a lesion may have."""

FEW = 10
"""Real lesions that say little of a distribution."""

Distinct = AfterValidator(lesions.distinct_numbers)
By = Annotated[Literal["guided"], Tag("guided")]
EitherOr = Discriminator(lambda value: "guided" if isinstance(value, str) else "list")
Factors = Annotated[Annotated[tuple[Positive, ...], Distinct, Tag("list")] | By, EitherOr]
Means = Annotated[Annotated[tuple[Fraction, ...], Distinct, Tag("list")] | By, EitherOr]
Copies = Annotated[int, Field(strict=True, ge=1, le=LEVELS // MOST)]


class RescaleGroup(lesions.RescaleGroup):
    """Lesions whose intensity is multiplied: which ones, and by what."""

    # What a guided group gets stands in `changes`, for which the lists are meant, too.
    factors: Factors = ()  # type: ignore[assignment]
    """Each factor makes one new pair: below 1 darkens, above 1 brightens (the paper's lambda).
    "guided" chooses factors for each lesion so that contrasts to the rim become those of the
    pseudo-labeled target, anew in each round of self-training."""
    means: Means = ()  # type: ignore[assignment]
    """Each makes one new pair whose lesion has this mean intensity, in [0, 1]: the factor follows
    from what the translator made of the lesion, which differs from one training to the next.
    "guided" chooses means for each lesion so that they become those of the pseudo-labeled target,
    anew in each round of self-training."""
    copies: Copies = 3
    """With "guided": how many changes a lesion of the group gets on average; rare kinds get more,
    at most twice as many."""
    first: Annotated[tuple[Positive, ...], Distinct] = ()
    """With "guided": the list of factors or means that stands in until there are pseudo-labels, in
    the first segmentation; it is required then."""

    _given: Mapping[Lesion, Mapping[str, float]] | None = PrivateAttr(None)

    @property
    def guide(self) -> Literal["", "factors", "means"]:
        """Which of the lists is guided; empty if neither is."""
        if self.means == GUIDED:
            return "means"
        return "factors" if self.factors == GUIDED else ""

    @model_validator(mode="after")
    def _guided_by_one_list(self) -> Self:
        used = self.model_fields_set & {"copies", "first"}
        if not self.guide and used:
            raise ValueError(f'{" and ".join(sorted(used))} need means or factors = "guided"')
        if self.guide and self.factors and self.means:
            raise ValueError("factors and means: one is guided, so leave out the other")
        if self.guide and not self.first:
            raise ValueError('"guided" needs first: what stands in until there are pseudo-labels')
        if self.guide == "means" and max(self.first) > 1:
            raise ValueError("first: means lie in [0, 1]")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Hand-set groups are written as they always were: keys follow from it."""
        written: dict[str, Any] = handler(self)
        if self.guide:
            return written
        return {name: value for name, value in written.items() if name not in ("copies", "first")}

    def changes(self, lesion: Lesion) -> dict[str, float]:
        """Suffix of the new case -> factor, for a lesion of the group.

        Raises:
            PluginError: the group is guided, and the core has not seen this lesion.
        """
        if not self.guide:
            return super().changes(lesion)
        if self._given is None:
            return self._stand_in().changes(lesion)
        if lesion not in self._given:
            raise PluginError(
                "met a lesion that its images do not show",
                where=f"group '{self.name}'",
                allowed="match_groups on the pairs as `augment` gets them, where a group is guided",
            )
        return dict(self._given[lesion])

    def given(self, changes: Mapping[Lesion, Mapping[str, float]]) -> Self:
        """The same group with what each of its lesions gets: suffix of the new case -> factor."""
        twin = self.model_copy()
        twin._given = changes
        return twin

    def choices(self, lesion: Lesion, levels: np.ndarray) -> dict[str, float]:
        """What a lesion may get, for values that real lesions have: suffix -> factor."""
        mean = max(lesion.mean, 1e-3)
        if self.guide == "factors":  # contrasts
            levels = (lesion.mean - lesion.contrast + levels) / mean
        rounded = [float(f"{level:.3g}") for level in levels]
        if self.guide == "factors":
            bright = [one for one in rounded if one > 0 and one * mean <= 1]
            return {f"{self.name}-x{one:g}": one for one in bright}
        return {f"{self.name}-m{one:g}": one / mean for one in rounded if 0 < one <= 1}

    def _stand_in(self) -> lesions.RescaleGroup:
        """The group with its first list."""
        usual = lesions.RescaleGroup(name=self.name, where=self.where, factors=(1.0,))
        lists = {"factors": (), "means": (), self.guide: self.first}
        return usual.model_copy(update={"texture": self.texture, **lists})


def guided_groups(options: Options) -> list[RescaleGroup]:
    """The groups of a stage that are guided."""
    groups = getattr(options, "groups", ())
    each = groups if isinstance(groups, tuple | list) else ()
    return [one for one in each if isinstance(one, RescaleGroup) and one.guide]


@dataclass
class Guide:
    """Decides which lesions get which changes, group by group.

    Attributes:
        real: pseudo-labeled lesions, weighted by trust.
        training: figures of the lesions of the training so far, copies included.
        log: takes lines.
    """

    real: Sample
    training: Points
    log: Callable[[str], None] = field(default=lambda text: None)

    def fill(self, group: RescaleGroup, members: list[Lesion]) -> RescaleGroup:
        """Give a group what its members get; it counts for the groups after it."""
        if not group.guide:
            self._add(group, {one: group.changes(one) for one in members})
            return group
        members = [*dict.fromkeys(members)]  # a stage cannot tell lesions with the same figures
        column = {"means": 0, "factors": 2}[group.guide]
        levels = self.real.quantiles(column, LEVELS)
        offers = [group.choices(one, levels) for one in members]
        each = [(n, suffix) for n, offered in enumerate(offers) for suffix in offered]
        points = figures_of(
            changed(members[n], offers[n][suffix], group.texture) for n, suffix in each
        )
        owners = [n for n, _ in each]
        count, most = group.copies * len(members), group.copies * MOST
        before, given = self.training, {one: dict[str, float]() for one in members}
        for index in choose(points, owners, self.training, self.real, count, most):
            n, suffix = each[index]
            given[members[n]][suffix] = offers[n][suffix]
        self._add(group, given)
        self._tell(group, given, before)
        return group.given(given)

    def _add(self, group: RescaleGroup, given: Mapping[Lesion, Mapping[str, float]]) -> None:
        made = [
            changed(lesion, factor, group.texture)
            for lesion, changes in given.items()
            for factor in changes.values()
        ]
        self.training = np.concatenate([self.training, figures_of(made)])

    def _tell(self, group: RescaleGroup, given: Mapping[Lesion, Any], before: Points) -> None:
        numbers = [len(changes) for changes in given.values()]
        self.log(
            f"group '{group.name}': {sum(numbers)} changes for {len(numbers)} lesions, guided by"
            f" {len(self.real)} pseudo-labeled ones"
        )
        if not len(before) or not len(self.training):
            return
        old, new = (wasserstein(points, self.real) for points in (before, self.training))
        told = ", ".join(f"{name} {old[name]:.3g} -> {new[name]:.3g}" for name in old)
        self.log(f"group '{group.name}': expected Wasserstein-1 distance to these: {told}")


def changed(lesion: Lesion, factor: float, texture: float) -> Lesion:
    """What `rescale` makes of a lesion, by its figures; clipping apart."""
    mean = min(1.0, factor * lesion.mean)
    around = lesion.mean - lesion.contrast
    return Lesion(lesion.volume_mm3, mean, factor * texture * lesion.std, mean - around)


def guided(
    options: OptionsT,
    cohort: Cohort,
    real: Cohort,
    classes: Mapping[str, int],
    *,
    originals: Cohort | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> OptionsT:
    """Options of a stage whose guided groups know what each lesion of a cohort gets.

    No label of the target enters but pseudo-labels. Where these show no lesion, each group keeps
    its `first` list.

    Args:
        options: as validated.
        cohort: the labeled images that the stage is going to get.
        real: pseudo-labeled target scans of the newest round.
        classes: class name -> label.
        originals: those of these images that the training holds beside the copies; None is all.
        log: takes lines.
    """
    label = label_of(getattr(options, "structure", ""), classes)
    sample = Sample.of(real.cases, label)
    if len(sample) < FEW:
        fallback = "" if len(sample) else ": the lists called 'first' stay"
        log(f"warning: guided by {len(sample)} pseudo-labeled lesions only{fallback}")
    if not len(sample):
        return options
    groups: tuple[Any, ...] = tuple(getattr(options, "groups", ()))
    kept = {case.case for case in (cohort if originals is None else originals).cases}
    members, before = _members(groups, cohort, label, kept)
    guide = Guide(sample, figures_of(before), log)
    filled = tuple(guide.fill(one, found) for one, found in zip(groups, members, strict=True))
    return options.model_copy(update={"groups": filled})


def _members(
    groups: tuple[RescaleGroup, ...], cohort: Cohort, label: int, kept: set[str]
) -> tuple[list[list[Lesion]], list[Lesion]]:
    """The lesions of each group, and those of the cases that are kept."""
    members: list[list[Lesion]] = [[] for _ in groups]
    before = []
    for pair, lesion in _lesions(cohort, label):
        if pair.case in kept:
            before.append(lesion)
        for group, found in zip(groups, members, strict=True):
            if group.where.matches(pair, lesion):
                found.append(lesion)
    return members, before


def _lesions(cohort: Cohort, label: int) -> Iterator[tuple[Any, Lesion]]:
    for pair in cohort.pairs():
        lesion = measured(pair, label)
        if lesion.volume_mm3:
            yield pair, lesion
