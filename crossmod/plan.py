"""From a recipe to steps: what feeds what.

    prepare -> translate … -> augment … -> train folds -> predict -> score
                                              ^                |
                                              +- pseudo-label -+   round after round

Beside the chain stand segmenters trained for comparison; they feed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crossmod import plugins
from crossmod.dataset import digests, find_scans
from crossmod.errors import DataError
from crossmod.recipe import Checked, StageUse
from crossmod.recipe_model import Data, LearningTable
from crossmod.steps import (
    Augment,
    DataFolder,
    Fit,
    MakePhantom,
    Predict,
    Prepare,
    PseudoLabel,
    ScoreStage,
    Step,
    Train,
    Translate,
)


@dataclass
class Plan:
    """The steps of a run, in an order in which they can be made.

    Attributes:
        steps: every step; inputs come before what needs them.
        source: the labeled source cohort.
        target: the unlabeled target cohort.
        translations: one step for each translator, in order.
        copies: the augmented copies, one step for each augmenter.
        rounds: the pseudo-labels of each round.
        predictions: (stage, split) -> predictions.
        scores: the scores of each stage and split, in the order of the stages.
    """

    source: Prepare
    target: Prepare
    validation: Prepare | None
    steps: list[Step] = field(default_factory=list)
    translations: list[Translate] = field(default_factory=list)
    copies: list[Augment] = field(default_factory=list)
    rounds: list[PseudoLabel] = field(default_factory=list)
    predictions: dict[tuple[str, str], Predict] = field(default_factory=dict)
    scores: list[ScoreStage] = field(default_factory=list)


class Planner:
    """Builds the plan of one recipe on one data folder."""

    def __init__(self, checked: Checked, root: Path | None) -> None:
        self.checked = checked
        self.recipe = checked.recipe
        self.root = root
        self.digests: dict[str, dict[str, str]] = {}  # by pattern: each file is read once
        self.has_references = self._has_references()

    def plan(self) -> Plan:
        """The whole plan; rounds that turn out unnecessary are skipped when it runs."""
        data = self.recipe.data
        source = self._prepare("source", data.source.images, data.source.labels)
        target = self._prepare("target", data.target.images, None)
        validation = (
            self._prepare("validation", data.validation.images, None) if data.validation else None
        )
        self.made = Plan(source, target, validation)
        if isinstance(source.data, MakePhantom):
            self.made.steps.append(source.data)
        self.made.steps += [step for step in (source, target, validation) if step]
        self._comparisons()
        self._chain()
        return self.made

    def _comparisons(self) -> None:
        """Segmenters the method is compared with, as far as the recipe asks for them."""
        if "oracle" in self.recipe.evaluate.compare and self.has_references:
            labels = self.recipe.evaluate.labels
            oracle = self._prepare("oracle", self.recipe.data.target.images, labels)
            self.made.steps.append(oracle)
            self._segment("oracle", (oracle,))
        if "no-adaptation" in self.recipe.evaluate.compare:
            self._segment("no-adaptation", (self.made.source,))

    def _chain(self) -> None:
        """Translate, augment, segment, and self-train."""
        plan, recipe = self.made, self.recipe
        base: Step = plan.source
        for use, table in self._with_tables(self.checked.translators, recipe.translate):
            base = self._translate(use, table, base)
        training: tuple[Step, ...] = (base,)
        last = "no-adaptation"
        compared = "translated" in recipe.evaluate.compare
        if plan.translations and (compared or not recipe.augment):
            last = "translated"
            self._segment(last, training)
        for use, table in self._with_tables(self.checked.augmenters, recipe.augment):
            self._augment(use, table, base)
        if plan.copies:
            originals = all(table.keep_originals for table in recipe.augment.values())
            training = (*(training if originals else ()), *plan.copies)
            last = "augmented"
            self._segment(last, training)
        if self.checked.pseudo_labeler and recipe.pseudo_label:
            if (last, "target") not in plan.predictions:
                self._segment(last, training)
            for number in range(1, recipe.pseudo_label.rounds + 1):
                labeled = self._pseudo_label(self.checked.pseudo_labeler, last, number)
                last = f"round-{number}"
                self._segment(last, (*training, labeled), number)

    def _translate(self, use: StageUse, table: LearningTable, base: Step) -> Translate:
        fit = self._fit(use, table, base)
        step = Translate(name=use.name, seed=self.recipe.seed, use=use, fit=fit, source=base)
        self.made.steps.append(step)
        self.made.translations.append(step)
        return step

    def _augment(self, use: StageUse, table: LearningTable, base: Step) -> None:
        fit = self._fit(use, table, base)
        step = Augment(name=use.name, seed=self.recipe.seed, use=use, fit=fit, labeled=base)
        self.made.steps.append(step)
        self.made.copies.append(step)

    def _fit(self, use: StageUse, table: LearningTable, base: Step) -> Fit:
        fit = Fit(
            name=f"{use.name}-fit",
            seed=self.recipe.seed,
            use=use,
            labeled=(base,),
            target=self.made.target,
            fit_on=table.fit_on,
        )
        self.made.steps.append(fit)
        return fit

    def _pseudo_label(self, use: StageUse, last: str, number: int) -> PseudoLabel:
        step = PseudoLabel(
            name=f"pseudo-label-{number}",
            seed=self.recipe.seed,
            round=number,
            use=use,
            predictions=self.made.predictions[last, "target"],
            earlier=tuple(self.made.rounds),
        )
        self.made.steps.append(step)
        self.made.rounds.append(step)
        return step

    def _segment(self, stage: str, labeled: tuple[Step, ...], number: int = 0) -> None:
        """Train the folds, predict both target splits, score them where references exist."""
        folds = self.recipe.segment.folds
        models = tuple(
            Train(
                name=f"train-{stage}" + (f"-fold-{fold + 1}" if folds > 1 else ""),
                seed=self.recipe.seed,
                round=number,
                use=self.checked.segmenter,
                labeled=labeled,
                fold=fold,
                folds=folds,
            )
            for fold in range(folds)
        )
        self.made.steps += models
        for split, images in (("target", self.made.target), ("validation", self.made.validation)):
            if images is not None:
                self._predict(stage, split, images, models, number)

    def _predict(
        self, stage: str, split: str, images: Prepare, models: tuple[Train, ...], number: int
    ) -> None:
        predict = Predict(
            name=f"predict-{stage}-{split}",
            round=number,
            use=self.checked.segmenter,
            models=models,
            images=images,
            largest_component=self.recipe.segment.largest_component,
            keep_probabilities=split == "target",
        )
        self.made.steps.append(predict)
        self.made.predictions[stage, split] = predict
        if self.has_references and self.recipe.evaluate.labels:
            score = ScoreStage(
                name=f"score-{stage}-{split}",
                round=number,
                predictions=predict,
                data=self._data([self.recipe.evaluate.labels]),
                labels=self.recipe.evaluate.labels,
                stage=stage,
                split=split,
            )
            self.made.steps.append(score)
            self.made.scores.append(score)

    def _prepare(self, split: str, images: str, labels: str | None) -> Prepare:
        return Prepare(
            name=f"prepare-{split}",
            data=self._data([images, labels] if labels else [images]),
            images=images,
            labels=labels,
            centers=self.recipe.data.centers,
            classes=self.recipe.data.classes,
            options=self.recipe.preprocess,
        )

    def _data(self, patterns: list[str]) -> Step:
        """The embedded cohort, or the digests of the user's files that match the patterns."""
        if self.root is None:
            size = self.recipe.data.phantom
            if size is None:
                raise DataError(
                    "the recipe needs scans, and none are named",
                    fix="give --data DIR or set CROSSMOD_DATA",
                )
            package = Path(plugins.__file__).parent
            code = plugins.digest_of_files(sorted((package / "phantom").glob("*.py")))
            return MakePhantom(name="phantom", size=size, code=code)
        found: dict[str, str] = {}
        for pattern in patterns:
            if pattern not in self.digests:
                files = sorted(self.root.glob(pattern.format(case="*")))
                self.digests[pattern] = digests(self.root, files)
            found |= self.digests[pattern]
        return DataFolder(name="data", root=self.root, digests=found)

    def _has_references(self) -> bool:
        """Whether label maps exist to score against."""
        labels = self.recipe.evaluate.labels
        if labels is None:
            return False
        return self.root is None or any(self.root.glob(labels.format(case="*")))

    @staticmethod
    def _with_tables(
        uses: tuple[StageUse, ...], tables: Mapping[str, LearningTable]
    ) -> list[tuple[StageUse, LearningTable]]:
        return list(zip(uses, tables.values(), strict=True))


def check_data(data: Data, root: Path) -> None:
    """Find the scans of every split, so that a wrong folder is said before anything runs.

    Raises:
        DataError: a split has no scan, or a labeled scan has no label map.
    """
    if not root.is_dir():
        raise DataError("is not a folder", where=str(root))
    find_scans(root, data.source.images, data.source.labels, data.centers)
    for files in (data.target, data.validation):
        if files is not None:
            find_scans(root, files.images, None, data.centers)
