"""The pseudo-labeler "self-training": learn from cleaned predictions, round after round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from crossmod import (
    ClassName,
    Context,
    Fraction,
    History,
    Options,
    Pair,
    Positive,
    Prediction,
    PseudoLabeler,
    hookimpl,
    label_of,
)

Share = Annotated[float, Field(strict=True, gt=0, le=1)]
"""More than nothing, up to all."""


class SelfTrainingOptions(Options):
    """Options of self-training; the defaults are the paper's."""

    structure: ClassName = ""
    """The class that the other options refer to; by default `evaluate.structure`."""
    tolerance: Fraction = 0.0
    """Stop early once 1 - mean Dice between the pseudo-labels of two rounds is below this; 0 never
    stops early."""
    largest_component: tuple[ClassName, ...] = ("",)
    """Classes of which only the largest connected component is kept; by default
    `evaluate.structure`."""
    min_confidence: Fraction = 0.0
    """Drop a case if the mean probability inside its structure is below this; 0 keeps all."""
    keep_empty: bool = False
    """Keep cases in which the structure was not found. Off by default, because every patient of
    the challenge has a tumor: learning from a missed one would teach that it is background."""
    min_agreement: Fraction = 0.0
    """Drop a case if the mean Dice between what every two folds outline of its structure is below
    this; 0 keeps all. Of a class of `largest_component`, only parts that touch the one that is
    kept count. With a single fold, what it outlines in the scan, its mirror image and shifted ones
    is compared instead."""
    volume_window: tuple[Positive, Positive] | None = None
    """Drop a case if the volume of any class is below or above these multiples of its mean over the
    source, as `[0.2, 1.8]`; a class that was not found has volume 0."""
    max_entropy: Positive | None = None
    """Drop a case if the mean of -p log p inside its structure is above this; at most 0.37."""
    max_change: Fraction = 1.0
    """Drop a case if 1 - Dice between its structure and that of the round before is above this; 1
    keeps all, and so does a case that the round before does not have."""
    mask_below: Fraction = 0.0
    """Learn nothing from a voxel if a smaller share of the folds than this gave its label; 0 masks
    none, 1 masks every voxel that any fold labels otherwise. Components that cleaning removed stay
    background."""
    lowest_weight: Share = 1.0
    """Weight of the least trusted case that is kept; the most trusted has 1, those between follow
    by their rank. Trust is the agreement of the folds on the structure."""
    shares: tuple[Share, ...] = ()
    """Share of the cases that is kept in each round, the most trusted first, of those that no
    other option drops, as `[0.5, 0.75, 1.0]`; further rounds keep the last share."""
    ledger: bool = False
    """Note what is known of every case in `ledger.csv`, and warn when rounds drift; any of the
    options from `min_agreement` on does so, too."""

    @property
    def compares(self) -> bool:
        """Whether the cases of a round are compared with each other."""
        return bool(self.shares) or self.lowest_weight < 1

    @property
    def judges(self) -> bool:
        """Whether more is found of a case than the paper's rounds need."""
        limits = self.min_agreement > 0 or self.max_entropy is not None or self.max_change < 1
        rest = self.ledger or self.compares or self.mask_below > 0
        return limits or rest or self.volume_window is not None

    @model_validator(mode="after")
    def _window_in_order(self) -> Self:
        if self.volume_window and self.volume_window[0] >= self.volume_window[1]:
            raise ValueError("volume_window: the first number must be below the second")
        return self


class SelfTraining(PseudoLabeler[SelfTrainingOptions]):
    """Takes the most probable labels, cleans them, and drops what it cannot trust."""

    @property
    def reads_folds(self) -> bool:
        """Whether their agreement decides or is noted."""
        return self.options.judges

    @property
    def reads_source(self) -> bool:
        """Whether volumes are compared with those of the source."""
        return self.options.judges

    @property
    def gives_weights(self) -> bool:
        """Whether cases count by their rank, or voxels are masked."""
        return self.options.lowest_weight < 1 or self.options.mask_below > 0

    def select(
        self, predictions: Iterable[Prediction], history: History, ctx: Context
    ) -> Iterator[Pair]:
        """Yield the cleaned label map of every case that is kept."""
        from crossmod_self_training.drift import signs
        from crossmod_self_training.rank import ranked
        from crossmod_self_training.trust import Judge, Judged

        options, rounds = self.options, history.rounds
        judge = Judge(options, ctx.classes, history)
        judged: Iterable[Judged] = map(judge, predictions)
        if options.compares:
            judged = ranked(judged, options, judge.structure, len(rounds) + 1)
        figures, kept = {}, 0
        for one in judged:
            if options.judges:
                ctx.metric(**one.row())
                figures[one.pair.case] = one.figures
            if one.why:
                ctx.log(f"{one.pair.case}: dropped, {one.why}")
            else:
                kept += 1
                yield one.pair
        if options.judges:
            if not kept:
                ctx.log(f"warning: none of {len(figures)} cases is trusted: nothing is learned")
            for sign in signs(figures, rounds[0] if rounds else None, judge.structure):
                ctx.log(f"warning: {sign}")

    def done(self, history: History) -> bool:
        """Whether the newest labels agree with those before."""
        from crossmod_self_training.clean import agreement

        if len(history.rounds) < 2 or self.options.tolerance == 0:
            return False
        older, newer = history.rounds[-2:]
        label = label_of(self.options.structure, newer.classes)
        return 1 - agreement(older, newer, label) < self.options.tolerance


@hookimpl
def crossmod_stage() -> type[SelfTraining]:
    """Offer self-training."""
    return SelfTraining
