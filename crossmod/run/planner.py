"""From a recipe to steps: what feeds what.

    prepare -> translate … -> augment … -> train folds -> predict -> score
                                              ^                |
                                              +- pseudo-label -+   round after round

Beside the chain stand segmenters trained for comparison; they feed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from crossmod.data.grids import Preprocess
from crossmod.model.ensemble import Ensemble
from crossmod.recipe.load import Checked, Segmentation, labeler_of
from crossmod.recipe.model import AnyFiles, Files
from crossmod.run.data import chosen
from crossmod.run.plan import Plan
from crossmod.run.sources import Sources
from crossmod.run.steps import (
    Apply,
    Augment,
    Choose,
    Fit,
    Gate,
    Judge,
    Originals,
    Predict,
    Prepare,
    PseudoLabel,
    Regrid,
    ScoreStage,
    Step,
    Survive,
    Train,
    Translate,
)
from crossmod.run.steps.lottery import SEEDS_APART
from crossmod.stages.find import StageUse
from crossmod.stages.tables import LearningTable, PseudoLabelTable, TranslateTable

StepT = TypeVar("StepT", bound=Step)
ApplyT = TypeVar("ApplyT", bound=Apply)


class Planner:
    """Builds the plan of one recipe on one data folder."""

    def __init__(
        self, checked: Checked, root: Path | None, digests: dict[Path, str] | None = None
    ) -> None:
        """Plan for a data folder, or for the embedded cohort where ``root`` is None.

        Plans of several variants share ``digests``, by file or folder of DICOM files, so that each
        is read once.
        """
        self.checked, self.recipe, self.root = checked, checked.recipe, root
        phantom = self.recipe.data.phantom
        self.sources = Sources(root, phantom, digests if digests is not None else {})

    def plan(self) -> Plan:
        """The whole plan; rounds that turn out unnecessary are skipped when it runs."""
        data = self.recipe.data
        source = self._prepare("source", data.source, data.source.labels)
        target = self._prepare("target", data.target)
        validation = self._prepare("validation", data.validation) if data.validation else None
        first = [source.data] if source.data.stored else []
        prepared = [step for step in (source, target, validation) if step]
        self.made = Plan(self.checked, source, target, validation, [*first, *prepared])
        self._comparisons()
        self._chain()
        return self.made

    def _prepare(
        self,
        name: str,
        files: AnyFiles,
        labels: str | None = None,
        grid: Preprocess | None = None,
    ) -> Prepare:
        """The step that brings scans onto a common grid."""
        data, cases = self.recipe.data, chosen(self.recipe, files, labels, self.root)
        return Prepare(
            name=f"prepare-{name}",
            data=self.sources.of(files.images, labels, cases=cases),
            images=files.images,
            labels=labels,
            centers=data.centers,
            classes=data.class_table,
            options=grid or self.recipe.preprocess.of(name),
            intake=self.recipe.intake,
            cases=cases,
            series=files.series if isinstance(files, Files) else "",
            patients=data.patients,
        )

    def _comparisons(self) -> None:
        """Segmenters the method is compared with, as far as the recipe asks for them."""
        target = self.made.target
        labels = self.recipe.evaluate.labels
        if (
            "oracle" in self.recipe.evaluate.compare
            and self.sources.referenced(target, labels) == "all"
        ):
            oracle = self._prepare("oracle", self.recipe.data.target, labels)
            self._segment("oracle", (self._add(oracle),))
        if "no-adaptation" in self.recipe.evaluate.compare:
            self._segment("no-adaptation", (self.made.source,))

    def _chain(self) -> None:
        """Translate, augment, segment, and self-train."""
        plan, recipe = self.made, self.recipe
        base = self._translate()
        training: tuple[Step, ...] = (base,)
        last = "no-adaptation"
        compared = "translated" in recipe.evaluate.compare
        if plan.translations and (compared or not recipe.augment):
            last = "translated"
            self._segment(last, training)
            self._gate(last)
        for use, table in zip(self.checked.augmenters, recipe.augment.values(), strict=True):
            plan.copies.append(self._apply(Augment, use, table, base))
        if plan.copies:
            training = (self._originals("originals", base, plan.copies), *plan.copies)
            first = last == "no-adaptation"
            last = "augmented"
            self._segment(last, training)
            if first:
                self._gate(last)
        if last == "no-adaptation" and last not in recipe.evaluate.compare:
            self._segment(last, training)
        if recipe.pseudo_label:
            use = self.checked.uses["pseudo_label", ""]
            self._self_train(use, recipe.pseudo_label, training, last)

    def _originals(self, name: str, images: Step, copies: Sequence[Step]) -> Step:
        """Those images that stay in the training beside copies."""
        tables, made = self.recipe.augment.values(), self.made.originals
        pairs = zip(copies, tables, strict=True)
        instead = tuple(step for step, table in pairs if not table.keep_originals)
        if not instead:
            return images
        if not made or made[-1].copies != instead:
            made.append(self._add(Originals(name=name, images=images, copies=instead)))
        return made[-1]

    def _translate(self) -> Step:
        """Apply the translators one after the other; gives the images to learn from."""
        plan, base = self.made, self.made.source
        for use, table in zip(
            self.checked.translators, self.recipe.translate.values(), strict=True
        ):
            images = plan.translations[-1] if plan.translations else base
            plan.translations.append(self._translated(use, table, images))
        if not plan.translations:
            return base
        last = plan.translations[-1]
        plan.survival = self._add(Survive(name="survival", source=base, translated=last))
        return last

    def _translated(self, use: StageUse, table: TranslateTable, images: Step) -> Translate | Choose:
        """What a translator makes of images: of several tries, what is chosen."""
        if table.tries == 1:
            return self._apply(Translate, use, table, images)
        judged: list[Judge] = []
        source, target = self.made.source, self.made.target
        for n in range(table.tries):
            one = replace(use, name=f"{use.name}-try-{n + 1}")
            made = self._apply(Translate, one, table, images, n)
            judge = Judge(name=f"{one.name}-judge", source=source, translated=made, target=target)
            judged.append(self._add(judge))
        choice = Choose(name=use.name, judged=tuple(judged), use_tries=table.use_tries)
        self.made.choices.append(self._add(choice))
        return choice

    def _self_train(
        self, use: StageUse, table: PseudoLabelTable, training: tuple[Step, ...], last: str
    ) -> None:
        """Label the target scans with the stage before and train again, round after round."""
        for number in range(1, table.rounds + 1):
            chosen = PseudoLabel(
                name=f"pseudo-label-{number}",
                **self._by(use),
                predictions=self.made.predictions[last, "target"],
                earlier=tuple(self.made.rounds),
                source=self.made.source if labeler_of(use).reads_source else None,
            )
            self.made.rounds.append(self._add(chosen))
            labeled: Step = chosen
            setup = self.checked.segmentation
            if number == table.rounds:
                setup = self.checked.last
                if table.last and table.last.train_on == "target":
                    training = ()
            training = self._guided(training, chosen, number)
            images = self._images(setup)
            if setup.preprocess != self.checked.segmentation.preprocess:
                regrid = Regrid(name=f"regrid-{number}", labeled=chosen, images=images["target"])
                labeled = self._add(regrid)
            before = self.made.predictions[last, "target"].models if table.warm_start else ()
            last = f"round-{number}"
            self._segment(last, (*training, labeled), setup, images, before)

    def _guided(
        self, training: tuple[Step, ...], real: PseudoLabel, number: int
    ) -> tuple[Step, ...]:
        """What a round trains on in place of a training: copies that pseudo-labels guide, anew."""
        if not any(isinstance(step, Augment) and step.is_guided for step in training):
            return training
        stay = self.made.originals[0] if self.made.originals else self.made.copies[0].images
        copies = [
            self._add(
                replace(step, name=f"{step.use.name}-round-{number}", real=real, originals=stay)
            )
            if step.is_guided
            else step
            for step in self.made.copies
        ]
        return (self._originals(f"originals-round-{number}", copies[0].images, copies), *copies)

    def _gate(self, stage: str) -> None:
        """End the run after this stage if it is not good enough, where the recipe asks for it."""
        limit = self.recipe.evaluate.continue_above
        scores = [s for s in self.made.scores if (s.stage, s.split) == (stage, "validation")]
        if limit is not None and scores:
            structure = self.recipe.evaluate.structure
            self._add(Gate(name="continue", scores=scores[0], structure=structure, limit=limit))

    def _images(self, setup: Segmentation) -> dict[str, Prepare]:
        """The target splits on the grid of a segmentation."""
        plan, data = self.made, self.recipe.data
        if setup.preprocess == self.checked.segmentation.preprocess:
            usual = {"target": plan.target, "validation": plan.validation}
            return {split: step for split, step in usual.items() if step}
        files = {"target": data.target, "validation": data.validation}
        return {
            split: self._add(self._prepare(f"{split}-last", found, grid=setup.preprocess))
            for split, found in files.items()
            if found
        }

    def _add(self, step: StepT) -> StepT:
        self.made.steps.append(step)
        return step

    def _by(self, use: StageUse) -> dict[str, Any]:
        """What every step of a plugin receives: the plugin, seed and numeric settings."""
        recipe = self.recipe
        numbers = {"determinism": recipe.determinism, "precision": recipe.precision}
        return {"use": use, "seed": recipe.seed, **numbers}

    def _apply(
        self,
        kind: type[ApplyT],
        use: StageUse,
        table: LearningTable,
        images: Step,
        tried: int | None = None,
    ) -> ApplyT:
        """Let a translator or augmenter learn, then apply it; ``tried`` counts several tries."""
        by = self._by(use)
        by["seed"] = (by["seed"] + (tried or 0) * SEEDS_APART) % 2**32
        given: dict[str, Any] = {"labeled": (images,), "target": self.made.target}
        given |= {"fit_on": table.fit_on, "is_try": tried is not None}
        fit = Fit(name=f"{use.name}-fit", **by, **given)
        return self._add(kind(name=use.name, **by, fit=self._add(fit), images=images))

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
                **self._by(setup.use),
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
        table, feeds = setup.table, split == "target" and self._feeds(stage)
        predict = Predict(
            name=f"predict-{stage}-{split}",
            **self._by(setup.use) | {"seed": 0},  # nothing in it is random
            models=models,
            images=images,
            ensemble=Ensemble(setup.use, classes, table.average, table.largest_component),
            keep_probabilities=feeds,
            keep_folds=feeds and labeler_of(self.checked.uses["pseudo_label", ""]).reads_folds,
        )
        self.made.predictions[stage, split] = self._add(predict)
        evaluate = self.recipe.evaluate
        if (
            evaluate.labels
            and split in evaluate.splits
            and self.sources.referenced(images, evaluate.labels) != "none"
        ):
            score = ScoreStage(
                name=f"score-{stage}-{split}",
                predictions=predict,
                data=self.sources.of(evaluate.labels),
                labels=evaluate.labels,
                stage=stage,
                split=split,
            )
            self.made.scores.append(self._add(score))

    def _feeds(self, stage: str) -> bool:
        """Whether pseudo-labels are made from the predictions of a stage."""
        table = self.recipe.pseudo_label
        if table is None:
            return False
        rounds = [f"round-{number}" for number in range(1, table.rounds)]
        return stage in (self.recipe.first_stage, *rounds)
