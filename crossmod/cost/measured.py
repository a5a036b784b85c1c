"""What is known of the cost of a step, from earlier results of the same work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crossmod.data.grids import Grid
from crossmod.data.nifti import read_grid
from crossmod.files.atomic import read_manifest
from crossmod.run.steps import Step
from crossmod.run.steps.extents import Extent, Extents, Lattice, cohort_in, typical_grid
from crossmod.store.store import Store


@dataclass(frozen=True)
class Measured:
    """The cost of a step that was made, or of a part of it.

    Attributes:
        source: "earlier" or "probe".
        seconds: whatever the number of cases.
        case_seconds: for each case besides.
        memory_bytes: the largest resident set of its process.
        gpu_bytes: the most its process held of the memory of a GPU; None if unknown.
        state_bytes: what a training leaves on disk.
        copies: cases that came out for each that went in.
        problem: why it could not be made; all else is unknown then.
        too_large: whether that is for want of memory.
    """

    source: str
    seconds: float = 0.0
    case_seconds: float = 0.0
    memory_bytes: int = 0
    gpu_bytes: int | None = None
    state_bytes: int = 0
    copies: float = 1.0
    problem: str = ""
    too_large: bool = False


@dataclass(frozen=True)
class Conditions:
    """What decides how long the same work takes.

    Attributes:
        device: "cpu" or "cuda"; empty where that is not known.
        precision: as the recipe says; "auto" is the same on the same machine.
        threads: of each worker.
        gpu: name and memory of the GPU; empty without one.
    """

    device: str
    precision: str
    threads: int
    gpu: str = ""


@dataclass
class Earlier:
    """Finds results of the same work in a store.

    Attributes:
        store: where to look.
        extents: the cohorts of the plan.
        conditions: how it would be made now.
    """

    store: Store
    extents: Extents
    conditions: Conditions
    _loads: dict[str, tuple[int, Lattice] | None] = field(default_factory=dict, init=False)

    def of(self, step: Step) -> Measured | None:
        """The cost of a step, from the result whose number of cases is nearest."""
        load = self.extents.load(step)
        wanted = load.count if load else step.cases_of(step.settings)
        found = []
        for entry in self._entries.get(type(step).__name__, []):
            count = self._count(step, entry, load)
            if count:
                found.append((abs(count - wanted), count, entry))
        if not found:
            return None
        _, count, entry = min(found, key=lambda one: one[0])
        return self._measured(step, entry, count)

    def _count(self, step: Step, entry: Mapping[str, Any], load: Extent | None) -> int:
        """The number of cases of an entry; 0 if it was other work, or that is not known."""
        if not step.who:
            stored = self._load(entry)
            return stored[0] if stored else step.cases_of(entry["content"]["settings"])
        stored = self._load(entry) if load and self._alike(step, entry) else None
        return stored[0] if load and stored and stored[1].resembles(load.lattice) else 0

    def _load(self, entry: Mapping[str, Any]) -> tuple[int, Lattice] | None:
        """The cohort of an entry; every step of a plan asks for that of each."""
        from nibabel.filebasedimages import ImageFileError

        key = entry["key"]
        if key not in self._loads:
            self._loads[key] = None
            with suppress(OSError, ImageFileError):  # damaged; the run will notice
                self._loads[key] = _stored_load(self.store, entry)
        return self._loads[key]

    @cached_property
    def _entries(self) -> Mapping[str, list[dict[str, Any]]]:
        """Name of a class -> the manifests of its results."""
        found: dict[str, list[dict[str, Any]]] = {}
        for manifest in self.store.folder.glob("[0-9a-f][0-9a-f]/[0-9a-f]*/manifest.json"):
            if entry := _manifest(manifest.parent):
                found.setdefault(entry["content"]["step"], []).append(entry)
        return found

    def _alike(self, step: Step, entry: Mapping[str, Any]) -> bool:
        """Whether an entry is the same work, whatever its inputs and its seed."""
        here = self.conditions
        same_device = here.device in ("", str(entry.get("device", "")).partition(":")[0])
        same_precision = here.precision in ("auto", entry.get("precision"))
        return same_device and same_precision and work_of(step.content) == work_of(entry["content"])

    def _measured(self, step: Step, entry: Mapping[str, Any], count: int) -> Measured:
        gpu_bytes = entry.get("gpu_peak_bytes")
        earlier = Measured(
            "earlier", memory_bytes=int(entry.get("peak_bytes", 0)), gpu_bytes=gpu_bytes
        )
        seconds = float(entry["seconds"])
        if step.is_learner:
            size = sum(file["bytes"] for file in entry.get("files", {}).values())
            return replace(earlier, seconds=seconds, state_bytes=size)
        made = cohort_in(self.store.path(entry["key"]))
        cost = replace(earlier, case_seconds=seconds / count)
        return replace(cost, copies=len(made) / count) if made is not None else cost


def work_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the cost of a step for the same cases: settings, without names of parts."""
    free = ("fold", "keep_probabilities")
    return {name: value for name, value in content["settings"].items() if name not in free}


def _stored_load(store: Store, manifest: Mapping[str, Any]) -> tuple[int, Lattice] | None:
    """The number of cases that a stored step went through, and their grid.

    Raises:
        OSError: an image is damaged.
    """
    keys = list(manifest["content"]["inputs"].values())
    images = [image for key in keys for image in _images(store, key)]
    images = images or _images(store, manifest["key"])
    if images:
        grid = typical_grid(images, lambda path: Grid(*read_grid(path)))
        return len(images), Lattice(grid.shape, grid.spacing_mm)
    before = (_manifest(store.path(key)) for key in keys)
    through = (_stored_load(store, one) for one in before if one)
    return next((found for found in through if found), None)


def _images(store: Store, key: str) -> list[Path]:
    cohort = cohort_in(store.path(key))
    return [case.image for case in cohort.cases] if cohort else []


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What the manifest of a stored step says; its files are not looked at."""
    content = read_manifest(folder)
    return content if {"content", "seconds"} <= content.keys() else None
