"""What a plan holds: the steps of a run, and which of them are what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crossmod.recipe.load import Checked
from crossmod.run.steps import (
    Augment,
    Choose,
    Originals,
    Predict,
    Prepare,
    PseudoLabel,
    ScoreStage,
    Step,
    Survive,
    Translate,
)


@dataclass
class Plan:
    """The steps of a run, in an order in which they can be made.

    Attributes:
        checked: the recipe, one variant of it with one seed.
        steps: every step; inputs come before what needs them.
        source: the labeled source cohort.
        target: the unlabeled target cohort.
        translations: one step for each translator, in order.
        choices: those of them that choose between several tries.
        copies: the augmented copies, one step for each augmenter.
        originals: those that stay in the training beside them, first and wherever a round has
            other copies; empty where all do.
        rounds: the pseudo-labels of each round.
        predictions: (stage, split) -> predictions.
        survival: what the translations make of labeled structures; None without a translation.
        scores: the scores of each stage and split, in the order of the stages.
        remarks: what the intake found odd, beside the step that reads it.
    """

    checked: Checked
    source: Prepare
    target: Prepare
    validation: Prepare | None
    steps: list[Step] = field(default_factory=list)
    translations: list[Translate | Choose] = field(default_factory=list)
    choices: list[Choose] = field(default_factory=list)
    copies: list[Augment] = field(default_factory=list)
    originals: list[Originals] = field(default_factory=list)
    rounds: list[PseudoLabel] = field(default_factory=list)
    predictions: dict[tuple[str, str], Predict] = field(default_factory=dict)
    survival: Survive | None = None
    scores: list[ScoreStage] = field(default_factory=list)
    remarks: list[tuple[Step, str]] = field(default_factory=list)

    def remark(self, found: Iterable[tuple[str, str]]) -> None:
        """Note what the intake found odd: (split, text)."""
        steps = {"source": self.source, "target": self.target, "validation": self.validation}
        self.remarks += [(step, text) for split, text in found if (step := steps[split])]
