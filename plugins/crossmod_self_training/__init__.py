"""The pseudo-labeler "self-training": learn from cleaned predictions, round after round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossmod import (
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

    structure: str = "tumor"
    """The class that the other options speak of."""
    tolerance: Fraction = 0.0
    """Stop early once 1 - mean Dice between two rounds' pseudo-labels is below this; 0: never."""
    largest_component: tuple[str, ...] = ("tumor",)
    """Classes of which only the largest connected component is kept."""
    min_confidence: Fraction = 0.0
    """Drop a case if the mean probability inside its structure is below this; 0 keeps all."""
    keep_empty: bool = False
    """Keep cases in which no structure was found. Off, because every patient of the challenge has
    a tumor: a missed one would be taught as background."""


class SelfTraining(PseudoLabeler[SelfTrainingOptions]):
    """Takes the most probable labels, cleaned; no case is weighed against another."""

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
        label = newer.classes[self.options.structure]
        return 1 - agreement(older, newer, label) < self.options.tolerance


@hookimpl
def crossmod_stage() -> type[SelfTraining]:
    """Offer self-training."""
    return SelfTraining
