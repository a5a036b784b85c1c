"""What a run writes down so that its models can be used without its data and its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from crossmod.data.volumes import Cohort
from crossmod.files.atomic import read_manifest
from crossmod.files.digests import digest_of_bytes
from crossmod.model.facts import (
    Fold,
    Identity,
    Origin,
    RunFacts,
    Split,
    Stage,
    write_facts,
)
from crossmod.run.plan import Plan
from crossmod.run.steps import DataFolder, MakePhantom, Predict, Prepare
from crossmod.run.steps.base import Where, library_versions


def write_record(file: Path, plan: Plan, shown: Mapping[str, str], folder_of: Where) -> None:
    """Write the run.json of a run folder.

    Args:
        file: where.
        plan: what was to be done.
        shown: name of every step that ran -> its folder in the run folder.
        folder_of: where the result of a step lies.
    """
    splits = {"source": plan.source, "target": plan.target, "validation": plan.validation}
    origin = Origin(
        embedded=isinstance(plan.source.data, MakePhantom),
        data={name: _split(step, folder_of) for name, step in splits.items() if step},
        crossmod=version("crossmod"),
        libraries=library_versions(),
    )
    stages = {
        stage: _stage(step, shown, folder_of)
        for (stage, _), step in plan.predictions.items()
        if step.name in shown
    }
    write_facts(file, RunFacts(origin=origin, stages=stages))


def _stage(step: Predict, shown: Mapping[str, str], folder_of: Where) -> Stage:
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
        trained_on={one.name: len(Cohort.load(folder_of(one))) for one in models[0].labeled},
    )


def _split(step: Prepare, folder_of: Where) -> Split:
    root, scans = folder_of(step.data), step.scans(folder_of)
    files = [path for scan in scans for path in (scan.image, scan.labels) if path]
    known = step.data.digests if isinstance(step.data, DataFolder) else _published(root)
    digests = sorted(known[path.relative_to(root).as_posix()] for path in files)
    whole = digest_of_bytes("\n".join(digests))
    return Split(centers=dict(Counter(scan.center for scan in scans)), digest=whole)


def _published(entry: Path) -> dict[str, str]:
    """Name -> sha256 of the files of a stored result."""
    return {name: file["sha256"] for name, file in read_manifest(entry)["files"].items()}
