"""Naive tumor rescaling: multiply the intensity of a labeled lesion, nothing else.

Salle et al. 2024, equation (5). There is no network, hence neither `networks.py` nor `train.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from crossmod import (
    Augmenter,
    ClassName,
    Context,
    DataFacts,
    Options,
    Pair,
    RescaleGroup,
    State,
    distinct_names,
    hookimpl,
    label_of,
    match_groups,
    rescale,
    unmatched_groups,
)


class NaiveRescaleOptions(Options):
    """Options of naive-rescale."""

    structure: ClassName = ""
    """Name of the class whose intensity is multiplied; by default `evaluate.structure`."""
    groups: Annotated[
        tuple[RescaleGroup, ...],
        Field(min_length=1, max_length=100),
        AfterValidator(distinct_names),
    ]
    """Which lesions get which factors; a lesion may belong to several groups."""


class NaiveRescale(Augmenter[NaiveRescaleOptions]):
    """Yields one brighter or darker copy of a lesion per group and factor."""

    def check_data(self, data: DataFacts) -> Iterator[str]:
        """Warn of groups that no lesion belongs to."""
        return unmatched_groups(self.options.groups, data.applied, self.options.structure)

    def augment(self, pairs: Iterable[Pair], state: State, ctx: Context) -> Iterator[Pair]:
        """Yield one copy for each match and factor; images stay in [0, 1]."""
        del state
        label = label_of(self.options.structure, ctx.classes)
        for pair, group, changes in match_groups(pairs, self.options.groups, label, ctx.log):
            for suffix, factor in changes.items():
                yield pair.copy_as(suffix, rescale(pair, label, factor, group.texture))


@hookimpl
def crossmod_stage() -> type[NaiveRescale]:
    """Offer the stage."""
    return NaiveRescale
