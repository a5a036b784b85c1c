"""From a recipe to steps: what feeds what.

    prepare -> translate … -> augment … -> train folds -> predict -> score
                                              ^                |
                                              +- pseudo-label -+   round after round

Beside the chain stand segmenters trained for comparison; they feed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossmod.data.grids import Preprocess
from crossmod.model.ensemble import Ensemble
from crossmod.recipe.load import Checked, Segmentation
from crossmod.recipe.model import Files, LearningTable, PseudoLabelTable
from crossmod.run.scans import Scans
from crossmod.run.steps import (
    Augment,
    Fit,
    Gate,
    MakePhantom,
    Predict,
    Prepare,
    PseudoLabel,
    Regrid,
    ScoreStage,
    Step,
    Train,
    Translate,
)
from crossmod.stages.find import StageUse


@dataclass
class Plan:
    """The steps of a run, in an order in which they can be made.

    Attributes:
        checked: the recipe, one variant of it with one seed.
        steps: every step; inputs come before what needs them.
        source: the labeled source cohort.
        target: the unlabeled target cohort.
        translations: one step for each translator, in order.
        copies: the augmented copies, one step for each augmenter.
        rounds: the pseudo-labels of each round.
        predictions: (stage, split) -> predictions.
        scores: the scores of each stage and split, in the order of the stages.
        remarks: what the intake found odd, beside the step that reads it.
    """

    checked: Checked
    source: Prepare
    target: Prepare
    validation: Prepare | None
    steps: list[Step] = field(default_factory=list)
    translations: list[Translate] = field(default_factory=list)
    copies: list[Augment] = field(default_factory=list)
    rounds: list[PseudoLabel] = field(default_factory=list)
    predictions: dict[tuple[str, str], Predict] = field(default_factory=dict)
    scores: list[ScoreStage] = field(default_factory=list)
    remarks: list[tuple[Step, str]] = field(default_factory=list)

    def remark(self, found: Iterable[tuple[str, str]]) -> None:
        """Note what the intake found odd: (split, text)."""
        steps = {"source": self.source, "target": self.target, "validation": self.validation}
        self.remarks += [(step, text) for split, text in found if (step := steps[split])]


class Planner:
    """Builds the plan of one recipe on one data folder."""

    def __init__(
        self,
        checked: Checked,
        root: Path | None,
        digests: dict[Path, str] | None = None,
    ) -> None:
        """Plan for a data folder, or for the embedded cohort where ``root`` is None.

        Plans of several variants share ``digests``, by file, so that each is read once.
        """
        self.checked = checked
        self.recipe = checked.recipe
        self.scans = Scans(checked.recipe, root, digests if digests is not None else {})

    def plan(self) -> Plan:
        """The whole plan; rounds that turn out unnecessary are skipped when it runs."""
        data = self.recipe.data
        source = self.scans.prepare("source", data.source.images, data.source.labels)
        target = self._unlabeled("target", data.target)
        validation = self._unlabeled("validation", data.validation) if data.validation else None
        self.made = Plan(self.checked, source, target, validation)
        if isinstance(source.data, MakePhantom):
            self.made.steps.append(source.data)
        self.made.steps += [step for step in (source, target, validation) if step]
        self._comparisons()
        self._chain()
        return self.made

    def _unlabeled(self, name: str, files: Files, grid: Preprocess | None = None) -> Prepare:
        return self.scans.prepare(name, files.images, None, series=files.series, options=grid)

    def _comparisons(self) -> None:
        """Segmenters the method is compared with, as far as the recipe asks for them."""
        target = self.made.target
        labels = self.recipe.evaluate.labels
        if "oracle" in self.recipe.evaluate.compare and self.scans.referenced(target) == "all":
            oracle = self.scans.prepare("oracle", target.images, labels, series=target.series)
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
            self._gate(last)
        for use, table in self._with_tables(self.checked.augmenters, recipe.augment):
            self._augment(use, table, base)
        if plan.copies:
            originals = all(table.keep_originals for table in recipe.augment.values())
            training = (*(training if originals else ()), *plan.copies)
            first = last == "no-adaptation"
            last = "augmented"
            self._segment(last, training)
            if first:
                self._gate(last)
        if self.checked.pseudo_labeler and recipe.pseudo_label:
            if (last, "target") not in plan.predictions:
                self._segment(last, training)
            self._self_train(self.checked.pseudo_labeler, recipe.pseudo_label, training, last)

    def _self_train(
        self,
        use: StageUse,
        table: PseudoLabelTable,
        training: tuple[Step, ...],
        last: str,
    ) -> None:
        """Label the target scans with the stage before and train again, round after round."""
        for number in range(1, table.rounds + 1):
            labeled: Step = self._pseudo_label(use, last, number)
            setup = self.checked.segmentation
            if number == table.rounds:
                setup = self.checked.last
                if table.last and table.last.train_on == "target":
                    training = ()
            images = self._images(setup)
            if setup.preprocess != self.recipe.preprocess:
                labeled = self._regrid(self.made.rounds[-1], images["target"], number)
            before = self.made.predictions[last, "target"].models if table.warm_start else ()
            last = f"round-{number}"
            self._segment(last, (*training, labeled), setup, images, before)

    def _gate(self, stage: str) -> None:
        """Where the recipe asks for it, go on only if this stage is good enough."""
        limit = self.recipe.evaluate.continue_above
        scores = [s for s in self.made.scores if (s.stage, s.split) == (stage, "validation")]
        if limit is not None and scores:
            structure = self.recipe.evaluate.structure
            gate = Gate(name="continue", scores=scores[0], structure=structure, limit=limit)
            self.made.steps.append(gate)

    def _images(self, setup: Segmentation) -> dict[str, Prepare]:
        """The target splits on the grid of a segmentation."""
        plan, data = self.made, self.recipe.data
        usual = {"target": plan.target, "validation": plan.validation}
        images = {split: step for split, step in usual.items() if step}
        if setup.preprocess == self.recipe.preprocess:
            return images
        for split in images:
            files = data.target if split == "target" else data.validation
            assert files is not None
            images[split] = self._unlabeled(f"{split}-last", files, setup.preprocess)
        plan.steps += images.values()
        return images

    def _regrid(self, labeled: PseudoLabel, images: Prepare, number: int) -> Regrid:
        step = Regrid(name=f"regrid-{number}", labeled=labeled, images=images)
        self.made.steps.append(step)
        return step

    @property
    def _numbers(self) -> dict[str, Any]:
        """What every step of a plugin is told about its numbers."""
        return {"determinism": self.recipe.determinism, "precision": self.recipe.precision}

    def _translate(self, use: StageUse, table: LearningTable, base: Step) -> Translate:
        fit = self._fit(use, table, base)
        step = Translate(
            name=use.name,
            seed=self.recipe.seed,
            **self._numbers,
            use=use,
            fit=fit,
            source=base,
        )
        self.made.steps.append(step)
        self.made.translations.append(step)
        return step

    def _augment(self, use: StageUse, table: LearningTable, base: Step) -> None:
        fit = self._fit(use, table, base)
        step = Augment(
            name=use.name,
            seed=self.recipe.seed,
            **self._numbers,
            use=use,
            fit=fit,
            labeled=base,
        )
        self.made.steps.append(step)
        self.made.copies.append(step)

    def _fit(self, use: StageUse, table: LearningTable, base: Step) -> Fit:
        fit = Fit(
            name=f"{use.name}-fit",
            seed=self.recipe.seed,
            **self._numbers,
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
            **self._numbers,
            use=use,
            predictions=self.made.predictions[last, "target"],
            earlier=tuple(self.made.rounds),
        )
        self.made.steps.append(step)
        self.made.rounds.append(step)
        return step

    def _segment(
        self,
        stage: str,
        labeled: tuple[Step, ...],
        setup: Segmentation | None = None,
        images: Mapping[str, Prepare] | None = None,
        before: tuple[Train, ...] = (),
    ) -> None:
        """Train the folds, predict both target splits, score them where references exist."""
        setup = setup or self.checked.segmentation
        folds = setup.table.folds
        models = tuple(
            Train(
                name=f"train-{stage}" + (f"-fold-{fold + 1}" if folds > 1 else ""),
                seed=self.recipe.seed,
                **self._numbers,
                use=setup.use,
                labeled=labeled,
                fold=fold,
                folds=folds,
                start=before[fold] if before else None,
            )
            for fold in range(folds)
        )
        self.made.steps += models
        for split, scans in (images or self._images(setup)).items():
            if split in self.recipe.evaluate.splits or (split == "target" and self._feeds(stage)):
                self._predict(stage, split, scans, models, setup)

    def _predict(
        self,
        stage: str,
        split: str,
        images: Prepare,
        models: tuple[Train, ...],
        setup: Segmentation,
    ) -> None:
        classes = self.recipe.data.class_table
        table = setup.table
        predict = Predict(
            name=f"predict-{stage}-{split}",
            use=setup.use,
            **self._numbers,
            models=models,
            images=images,
            ensemble=Ensemble(setup.use, classes, table.average, table.largest_component),
            keep_probabilities=split == "target" and self._feeds(stage),
        )
        self.made.steps.append(predict)
        self.made.predictions[stage, split] = predict
        evaluate = self.recipe.evaluate
        if evaluate.labels and split in evaluate.splits and self.scans.referenced(images) != "none":
            score = ScoreStage(
                name=f"score-{stage}-{split}",
                predictions=predict,
                data=self.scans.data([evaluate.labels]),
                labels=evaluate.labels,
                stage=stage,
                split=split,
            )
            self.made.steps.append(score)
            self.made.scores.append(score)

    def _feeds(self, stage: str) -> bool:
        """Whether pseudo-labels are made from the predictions of a stage."""
        table = self.recipe.pseudo_label
        if table is None:
            return False
        rounds = [f"round-{number}" for number in range(1, table.rounds)]
        return stage in (self.recipe.first_stage, *rounds)

    @staticmethod
    def _with_tables(
        uses: tuple[StageUse, ...], tables: Mapping[str, LearningTable]
    ) -> list[tuple[StageUse, LearningTable]]:
        return list(zip(uses, tables.values(), strict=True))
