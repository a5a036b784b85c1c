"""The pseudo-labeler "self-training": learn from cleaned predictions, round after round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossmod import (
    ClassName,
    Context,
    Fraction,
    History,
    Options,
    Pair,
    Prediction,
    PseudoLabeler,
    hookimpl,
    keep_largest,
    label_of,
)


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


class SelfTraining(PseudoLabeler[SelfTrainingOptions]):
    """Takes the most probable labels and cleans them, case by case."""

    def select(
        self, predictions: Iterable[Prediction], history: History, ctx: Context
    ) -> Iterator[Pair]:
        """Yield the cleaned label map of every case that is kept."""
        from crossmod_self_training.clean import confidence

        del history
        label = label_of(self.options.structure, ctx.classes)
        cleaned = [
            label_of(name, ctx.classes, where="largest_component")
            for name in self.options.largest_component
        ]
        for prediction in predictions:
            labels = prediction.labels
            for value in cleaned:
                labels = keep_largest(labels, value)
            found = bool((labels == label).any())
            certainty = confidence(prediction.probabilities, labels, label)
            if found and certainty < self.options.min_confidence:
                ctx.log(f"{prediction.case}: dropped, confidence {certainty:.2f}")
            elif not found and not self.options.keep_empty:
                ctx.log(f"{prediction.case}: dropped, no {self.options.structure} found")
            else:
                yield prediction.pair(labels)

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
