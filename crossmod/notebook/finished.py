"""The steps of a finished run, told from those that a later attempt left in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crossmod.files.atomic import read_manifest
from crossmod.model.facts import RUN_FILE, RunFacts, read_facts
from crossmod.run.folder import step_name


def steps_of_finished(folder: Path, found: Iterable[Path]) -> list[Path]:
    """The step folders that belong to the run of the record, without those of a later attempt.

    The record names the models; what they were made of follows from the manifests. Of the other
    steps, those belong to the run that were made of its steps alone.

    Args:
        folder: the run folder.
        found: the step folders in it, in order: what a step is made of comes before it.

    Raises:
        DataError: the record is damaged.
    """
    manifests = {path: read_manifest(path) for path in found}
    keys = _behind_models(read_facts(folder / RUN_FILE, RunFacts), manifests.values())
    kept = []
    for path, manifest in manifests.items():
        name = step_name(path)
        key = str(manifest.get("key", keys.get(name, "")))
        of_run = all(keys.get(one, made) == made for one, made in _inputs(manifest).items())
        if of_run and keys.setdefault(name, key) == key:
            kept.append(path)
    return kept


def _behind_models(facts: RunFacts, manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Step -> key, of all models and of what they were made of."""
    known = {manifest.get("key"): manifest for manifest in manifests}
    stages = facts.stages.values()
    waiting = {step_name(Path(fold.folder)): fold.key for one in stages for fold in one.folds}
    waiting |= {one.held_out.step: one.held_out.key for one in stages if one.held_out}
    keys: dict[str, str] = {}
    while waiting:
        name, key = waiting.popitem()
        if name not in keys:
            keys[name] = key
            waiting |= _inputs(known.get(key, {}))
    return keys


def _inputs(manifest: Mapping[str, Any]) -> dict[str, str]:
    content = manifest.get("content")
    inputs = content.get("inputs") if isinstance(content, dict) else None
    return inputs if isinstance(inputs, dict) else {}
