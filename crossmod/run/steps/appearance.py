"""Steps that change what images look like: translators and augmenters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import tee
from typing import Any, cast

from crossmod.data.lesions import FitOn
from crossmod.data.state import load_state, save_state
from crossmod.data.volumes import Cohort, CohortWriter, read_labels
from crossmod.errors import DataError
from crossmod.options import Determinism
from crossmod.run.steps.base import Step, Where
from crossmod.run.steps.files import load_cohorts
from crossmod.stages import contract
from crossmod.stages.base import Augmenter, Context, Translator
from crossmod.stages.find import StageUse


@dataclass(frozen=True, kw_only=True)
class PluginStep(Step):
    """A step whose work a plugin does."""

    use: StageUse
    determinism: Determinism = "seeded"
    precision: str = "auto"

    @property
    def settings(self) -> Mapping[str, Any]:
        options = self.use.options.model_dump(mode="json")
        settings = {
            "plugin": self.use.plugin.content,
            "options": options,
            "determinism": self.determinism,
        }
        # "auto" leaves the choice to each machine, as `device` does; a recipe that asks gets it.
        return settings if self.precision == "auto" else {**settings, "precision": self.precision}


@dataclass(frozen=True, kw_only=True)
class Fit(PluginStep):
    """Let a translator or augmenter learn."""

    labeled: tuple[Step, ...]
    target: Step
    fit_on: FitOn

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.labeled, self.target)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fit_on": self.fit_on.model_dump()}

    def make(self, folder_of: Where, ctx: Context) -> None:
        labeled = load_cohorts(self.labeled, folder_of).only(self.fit_on.keeps)
        target = Cohort.load(folder_of(self.target)).only(self.fit_on.keeps)
        for what, cohort in (("source", labeled), ("target", target)):
            if not len(cohort):
                raise DataError(
                    f"no {what} scan is of center '{self.fit_on.center}'",
                    where=f"{self.name}: fit_on",
                    fix='name a center that has both, or "*"',
                )
        stage = cast("Translator[Any] | Augmenter[Any]", self.use.stage())
        save_state(ctx.folder, contract.learned(stage.fit(labeled, target, ctx), self.use.who))


@dataclass(frozen=True, kw_only=True)
class Translate(PluginStep):
    """Translate every source image; label maps come along unchanged."""

    fit: Fit
    source: Step

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.fit, self.source)

    def make(self, folder_of: Where, ctx: Context) -> None:
        source = Cohort.load(folder_of(self.source))
        stage = cast("Translator[Any]", self.use.stage())
        given, checked = tee(ctx.progress(source.volumes(), total=len(source)))
        results = stage.translate(given, load_state(folder_of(self.fit)), ctx)
        writer = CohortWriter(ctx.folder, source.classes)
        for volume, case in zip(
            contract.translations(checked, results, self.use.who), source.cases, strict=True
        ):
            labels = read_labels(case.labels) if case.labels else None
            writer.add(volume, patient=case.patient, labels=labels)
        writer.close()


@dataclass(frozen=True, kw_only=True)
class Augment(PluginStep):
    """Make augmented copies; the originals are not repeated here."""

    fit: Fit
    labeled: Step

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.fit, self.labeled)

    def make(self, folder_of: Where, ctx: Context) -> None:
        cohort = Cohort.load(folder_of(self.labeled))
        stage = cast("Augmenter[Any]", self.use.stage())
        pairs = ctx.progress(cohort.pairs(), total=len(cohort))
        results = stage.augment(pairs, load_state(folder_of(self.fit)), ctx)
        given = {case.case: case for case in cohort.cases}
        writer = CohortWriter(ctx.folder, cohort.classes)
        for pair in contract.copies(given, results, cohort.classes, self.use.who):
            writer.add_pair(pair)
        writer.close()
