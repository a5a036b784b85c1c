"""What a run writes down so that its models can be used without its data and its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from crossmod.data.cases import copied_from
from crossmod.data.cohorts import Case, Cohort
from crossmod.files.digests import digest_of_bytes
from crossmod.files.patterns import references_of
from crossmod.model.facts import (
    Fold,
    HeldOut,
    Identity,
    Origin,
    RunFacts,
    Split,
    Stage,
    write_facts,
)
from crossmod.run.plan import Plan
from crossmod.run.steps import Augment, Predict, Prepare
from crossmod.run.steps.base import library_versions
from crossmod.run.steps.taken import Originals
from crossmod.store.store import Store


def write_record(file: Path, plan: Plan, shown: Mapping[str, str], store: Store) -> None:
    """Write the run.json of a run folder.

    Args:
        file: where.
        plan: what was to be done.
        shown: name of every step that ran -> its folder in the run folder.
        store: where the results of the steps lie.
    """
    splits = {"source": plan.source, "target": plan.target, "validation": plan.validation}
    origin = Origin(
        embedded=plan.source.data.stored,
        data={name: _split(step, store) for name, step in splits.items() if step},
        crossmod=version("crossmod"),
        libraries=library_versions(),
    )
    stages = {
        stage: _stage(step, shown, store, _held_out(step, plan, shown, store))
        for (stage, _), step in plan.predictions.items()
        if step.name in shown
    }
    facts = RunFacts(origin=origin, stages=stages, references=_references(plan, store))
    write_facts(file, facts)


def _references(plan: Plan, store: Store) -> dict[str, dict[str, str]]:
    """Split -> case -> digest of the label map that predictions are scored against."""
    found: dict[str, dict[str, str]] = {}
    for step in {step.split: step for step in plan.scores}.values():
        root, known = step.data.folder(store), step.data.file_digests(store)
        cases = [scan.case for scan in step.predictions.images.scans(store)]
        for case, path in references_of(root, step.labels, cases).items():
            file = path.relative_to(root).as_posix()
            if file in known:
                found.setdefault(step.split, {})[case] = known[file]
    return found


def _held_out(step: Predict, plan: Plan, shown: Mapping[str, str], store: Store) -> HeldOut | None:
    """The source scans, as translated last, from which folds did not learn.

    Of several translations of a scan the first: all of them show one tumor, and say one thing.
    """
    images = plan.translations[-1] if plan.translations else plan.source
    models = step.models
    if len(models) == 1 or not any(
        one.key == images.key or isinstance(one, Originals | Augment) for one in models[0].labeled
    ):
        return None
    cases = sources(Cohort.load(images.folder(store)).cases)
    unseen = [model.held_out(store) for model in models]
    return HeldOut(
        step=images.name,
        folder=shown[images.name],
        key=images.key,
        cases=tuple(tuple(one.case for one in cases if one.patient in mine) for mine in unseen),
    )


def sources(cases: Sequence[Case]) -> list[Case]:
    """Leave out the cases that are copies of others."""
    names = {one.case for one in cases}
    return [one for one in cases if copied_from(one.case, names) is None]


def _stage(
    step: Predict, shown: Mapping[str, str], store: Store, held_out: HeldOut | None
) -> Stage:
    ensemble, models = step.ensemble, step.models
    return Stage(
        classes=dict(ensemble.classes.values),
        intake=step.images.intake,
        preprocess=step.images.options,
        segmenter=Identity(**ensemble.use.plugin.identity),
        options=ensemble.use.options.model_dump(mode="json"),
        average=ensemble.average,
        largest_component=ensemble.largest_component,
        folds=tuple(Fold(folder=shown[model.name], key=model.key) for model in models),
        trained_on={one.name: len(Cohort.load(one.folder(store))) for one in models[0].labeled},
        held_out=held_out,
    )


def _split(step: Prepare, store: Store) -> Split:
    root, scans = step.data.folder(store), step.scans(store)
    files = [path for scan in scans for path in (scan.image, scan.labels) if path]
    known = step.data.file_digests(store)
    digests = sorted(known[path.relative_to(root).as_posix()] for path in files)
    whole = digest_of_bytes("\n".join(digests))
    return Split(centers=dict(Counter(scan.center for scan in scans)), digest=whole)
