"""Why a step has to run: what changed since its last result in the run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossmod.files.atomic import MANIFEST, read_manifest
from crossmod.run.steps import Step
from crossmod.store.store import Store

MAX_NAMED = 2
"""Differences that are named; the others are counted."""

LONGEST = 24
"""Longest value that is shown, characters; longer values are only named."""

DIGEST = re.compile("[0-9a-f]{40,}")


def reason(step: Step, folder: Path, store: Store) -> str:
    """Why a step that is not stored has to run, in a few words.

    Args:
        step: what is to run.
        folder: the run folder, with the results of the last run.
        store: where results are kept.
    """
    states = [path.name for path in store.checkpoints(step.key).glob("[0-9]*")]
    if states:
        return f"resumes from a checkpoint (step {int(max(states))})"
    before = _last(step.name, folder)
    aside = any((store.folder / "quarantine").glob(f"{step.key}-*"))
    if aside or store.path(step.key).exists():
        return "a stored result was damaged"
    if before is None:
        return "never made"
    if before.get("key") == step.key:
        return "a stored result was removed"
    now = json.loads(json.dumps(step.content))  # as it was written: no tuples
    found = list(dict.fromkeys(differences(before.get("content", {}), now)))
    more = [f"{len(found) - MAX_NAMED} more"] if len(found) > MAX_NAMED else []
    return ", ".join([*found[:MAX_NAMED], *more]) or "its key is another"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences between two contents of a step, in words, the most telling first.

    Inputs are named where nothing else differs: they change because of something before.
    """
    own = list(_own_differences(before, now))
    yield from own or _inputs(before.get("inputs", {}), now["inputs"])


def _own_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    settings = before.get("settings", {}), now["settings"]
    yield from _plugin(*(one.get("plugin", {}) for one in settings))
    old, new = (dict(_flat(one)) for one in settings)
    for name in {**new, **old}:
        if not name.startswith("plugin.") and old.get(name) != new.get(name):
            yield "other scans" if name.startswith("files.") else _change(name, old, new)
    if before.get("step") != now["step"] or before.get("code") != now["code"]:
        yield "code of crossmod changed"
    if before.get("seed") != now["seed"]:
        yield f"seed {before.get('seed')} -> {now['seed']}"
    libraries = before.get("libraries", {}), now["libraries"]
    for name in now["libraries"]:
        if libraries[0].get(name) != libraries[1][name]:
            yield f"{name} {libraries[0].get(name)} -> {libraries[1][name]}"


def _last(name: str, folder: Path) -> dict[str, Any] | None:
    """The manifest of the last result of a step of this name in a run folder."""
    for manifest in folder.glob(f"[0-9][0-9]*/{MANIFEST}"):
        same = manifest.parent.name.partition("-")[2] == name
        if same and (content := read_manifest(manifest.parent)):
            return content
    return None


def _plugin(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if before.get("name") != now.get("name"):
        yield f"plugin {before.get('name')} -> {now.get('name')}"
    elif before.get("code") != now.get("code"):
        yield f"code of plugin {now['name']} changed"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _change(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = (_shown(one.get(name)) for one in (old, new))
    too_long = max(len(before), len(now)) > LONGEST or DIGEST.fullmatch(now)
    return f"{name} changed" if too_long else f"{name} {before} -> {now}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _inputs(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """A key holds inputs by position; people know them by name."""
    changed = [name for name in now if name in before and before[name] != now[name]]
    if "data" in changed:  # the scans of a user
        yield "other scans"
        changed.remove("data")
    if changed:
        more = f" and {len(changed) - 1} more change" if len(changed) > 1 else " changes"
        yield f"input {changed[0]}{more}"
    yield from (f"new input {name}" for name in now if name not in before)
    yield from (f"input {name} removed" for name in before if name not in now)
