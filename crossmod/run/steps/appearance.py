"""Steps that change what images look like: translators and augmenters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from typing import Any, cast

from crossmod.data import guided
from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.data.lesions import FitOn
from crossmod.data.nifti import read_labels
from crossmod.data.state import State, load_state, save_state
from crossmod.data.volumes import Pair, Volume
from crossmod.errors import DataError, NotFinite
from crossmod.run.steps.base import PluginStep, Step, load_cohorts
from crossmod.run.steps.crops import crops_that_differ
from crossmod.run.steps.extents import Extent, Extents
from crossmod.run.steps.failures import failure_in, note_failure
from crossmod.run.steps.scans import Prepare
from crossmod.stages import contract
from crossmod.stages.base import Augmenter, PairTranslator, Translator
from crossmod.stages.context import Context
from crossmod.stages.find import StageUse
from crossmod.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Fit(PluginStep):
    """Let a translator or augmenter learn."""

    is_learner = True

    labeled: tuple[Step, ...]
    target: Step
    fit_on: FitOn
    is_try: bool = False
    """Whether it is one of several: it may diverge."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**super().settings, "fit_on": self.fit_on.model_dump()}

    def make(self, store: Store, ctx: Context) -> None:
        labeled = load_cohorts(self.labeled, store).only(self.fit_on.keeps)
        target = Cohort.load(self.target.folder(store)).only(self.fit_on.keeps)
        for what, cohort in (("source", labeled), ("target", target)):
            if not len(cohort):
                raise DataError(
                    f"no {what} scan is of center '{self.fit_on.center}'",
                    where=f"{self.name}: fit_on",
                    fix='name a center that has both, or "*"',
                )
        stage = cast("Translator[Any] | Augmenter[Any]", self.use.stage())
        if isinstance(stage, Translator) and all(isinstance(s, Prepare) for s in self.labeled):
            for text in crops_that_differ(labeled, target):
                ctx.log(f"warning: {text}")
        try:
            state = contract.learned(stage.fit(labeled, target, ctx), self.use.who)
        except NotFinite as error:
            if not self.is_try:
                raise
            note_failure(ctx.folder, error)
        else:
            save_state(ctx.folder, state)


@dataclass(frozen=True, kw_only=True)
class Apply(PluginStep):
    """Apply what a translator or augmenter has learned to each image of a cohort."""

    fit: Fit
    images: Step

    def extent(self, extents: Extents) -> Extent | None:
        return extents.of(self.images)

    def learned(self, store: Store) -> State:
        """What was learned.

        Raises:
            NotFinite: the training diverged.
        """
        folder = self.fit.folder(store)
        if why := failure_in(folder):
            raise NotFinite(why, where=self.fit.name, fix="choose another seed or other options")
        return load_state(folder)


@dataclass(frozen=True, kw_only=True)
class Translate(Apply):
    """Translate every source image; label maps come along unchanged."""

    def make(self, store: Store, ctx: Context) -> None:
        try:
            self._translate(store, ctx)
        except NotFinite as error:
            if not self.fit.is_try:
                raise
            note_failure(ctx.folder, error)

    def _translate(self, store: Store, ctx: Context) -> None:
        source = Cohort.load(self.images.folder(store))
        stage = cast("Translator[Any]", self.use.stage())
        state = self.learned(store)
        writer = CohortWriter(ctx.folder, source.classes)
        if isinstance(stage, PairTranslator):
            for pair in self._pairs(stage, source, state, ctx):
                writer.add_pair(pair)
        else:
            for volume, case in zip(
                self._volumes(stage, source, state, ctx), source.cases, strict=True
            ):
                labels = read_labels(case.labels) if case.labels else None
                writer.add(volume, patient=case.patient, labels=labels)
        writer.close()

    def _volumes(
        self, stage: Translator[Any], source: Cohort, state: State, ctx: Context
    ) -> Iterator[Volume]:
        given, checked = tee(ctx.progress(source.volumes(), total=len(source)))
        results = stage.translate(given, state, ctx)
        return contract.translations(checked, results, self.use.who)

    def _pairs(
        self, stage: PairTranslator[Any], source: Cohort, state: State, ctx: Context
    ) -> Iterator[Pair]:
        given = ctx.progress(source.pairs(), total=len(source))
        results = stage.translate_pairs(given, state, ctx)
        cases = {case.case: case for case in source.cases}
        return contract.pair_translations(cases, results, source.classes, self.use.who)

    def extent(self, extents: Extents) -> Extent | None:
        return with_copies(extents.of(self.images), extents.copies.get(self.key, 1.0))


@dataclass(frozen=True, kw_only=True)
class Augment(Apply):
    """Make augmented copies; the originals are not repeated here.

    Attributes:
        real: pseudo-labeled target scans that guide it; None for the first segmentation.
        originals: those that a training on these copies holds, too; None where nothing guides.
    """

    real: Step | None = None
    originals: Step | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        if self.real is None:
            return super().settings
        return {**super().settings, "guided": guided.VERSION}

    @property
    def is_guided(self) -> bool:
        """Whether pseudo-labels decide what it makes."""
        return bool(guided.guided_groups(self.use.options))

    def make(self, store: Store, ctx: Context) -> None:
        cohort = Cohort.load(self.images.folder(store))
        pairs = ctx.progress(cohort.pairs(), total=len(cohort))
        stage = cast("Augmenter[Any]", self._use(cohort, store, ctx).stage())
        results = stage.augment(pairs, self.learned(store), ctx)
        given = {case.case: case for case in cohort.cases}
        writer = CohortWriter(ctx.folder, cohort.classes)
        for pair in contract.copies(given, results, cohort.classes, self.use.who):
            writer.add_pair(pair)
        writer.close()

    def _use(self, cohort: Cohort, store: Store, ctx: Context) -> StageUse:
        """The stage with what each lesion gets, where pseudo-labels decide it."""
        if self.real is None or self.originals is None:
            return self.use
        real, originals = (Cohort.load(step.folder(store)) for step in (self.real, self.originals))
        options = guided.guided(
            self.use.options, cohort, real, ctx.classes, originals=originals, log=ctx.log
        )
        return replace(self.use, options=options)

    def extent(self, extents: Extents) -> Extent | None:
        return with_copies(extents.of(self.images), extents.copies.get(self.key, 1.0))


def with_copies(given: Extent | None, copies: float) -> Extent | None:
    """A cohort with ``copies`` cases for each given one."""
    if given is None:
        return None
    count = round(given.count * copies)
    cases = [given.cases[n % given.count] for n in range(count)]
    named = tuple((f"{case}+{n}", center) for n, (case, center) in enumerate(cases))
    return replace(given, cases=named)
