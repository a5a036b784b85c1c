"""How much a step works on: cases and voxels, known before anything is made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossmod.data.grids import Grid, Preprocess, closest_canonical, common_grid
from crossmod.data.volumes import Cohort, read_grid, spacing_of
from crossmod.files.atomic import MANIFEST
from crossmod.intake import load_grid
from crossmod.run.steps import (
    Augment,
    DataFolder,
    MakePhantom,
    Prepare,
    PseudoLabel,
    Regrid,
    Step,
    Translate,
)
from crossmod.store.store import Store

HEADERS = 9
"""Scans of a split whose headers are read; the one of median size stands for all."""


class Lattice(NamedTuple):
    """A voxel grid wherever it lies: ``shape`` (I, J, K) and voxel size."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    @property
    def voxels(self) -> int:
        """How many."""
        return int(np.prod(self.shape))

    def resembles(self, other: Lattice) -> bool:
        """Whether work on both costs the same: scans differ by a few slices."""
        near = np.allclose(self.spacing_mm, other.spacing_mm, rtol=0.01)
        return near and 0.9 < self.voxels / other.voxels < 1.1


@dataclass(frozen=True)
class Extent:
    """A cohort to come.

    Attributes:
        cases: identifier and center of each.
        lattice: of their images.
        native: of the scans as they were shipped.
        labeled: whether label maps come along.
    """

    cases: tuple[tuple[str, str], ...]
    lattice: Lattice
    native: Lattice
    labeled: bool

    @property
    def count(self) -> int:
        """How many cases."""
        return len(self.cases)

    @property
    def volume_bytes(self) -> int:
        """Of one case on disk."""
        return self.lattice.voxels * (5 if self.labeled else 4)


class Extents:
    """The cohorts of a plan.

    Args:
        store: where results are; the number of cases that a stage kept is read there.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.copies: dict[str, float] = {}
        """Key of an Augment step -> new cases for each one given; 1 where nothing is known."""
        self._known: dict[str, Extent | None] = {}

    def of(self, step: Step) -> Extent | None:
        """The cohort a step gives; None if it gives none or nothing is known of it."""
        if step.key not in self._known:
            self._known[step.key] = self._found(step)
        return self._known[step.key]

    def read_by(self, step: Step) -> dict[str, Extent]:
        """Name of an input -> the cohort it gives."""
        found = {one.name: self.of(one) for one in step.inputs}
        return {name: extent for name, extent in found.items() if extent is not None}

    def load(self, step: Step) -> Extent | None:
        """All cases a step goes through: those it reads, or gives, or whose results it reads."""
        read = list(self.read_by(step).values())
        if read:
            return replace(read[0], cases=tuple(case for one in read for case in one.cases))
        own = self.of(step)
        through = (self.load(one) for one in step.inputs)
        return own or next((extent for extent in through if extent is not None), None)

    def _found(self, step: Step) -> Extent | None:
        if isinstance(step, Prepare):
            return _prepared(step)
        if isinstance(step, Translate):
            return self.of(step.source)
        if isinstance(step, Regrid):
            images, labeled = self.of(step.images), self.of(step.labeled)
            return images and labeled and replace(images, cases=labeled.cases, labeled=True)
        if isinstance(step, Augment):
            return self._kept(step, self._copied(step, self.of(step.labeled)))
        if isinstance(step, PseudoLabel):
            images = self.of(step.predictions.images)
            return self._kept(step, images and replace(images, labeled=True))
        return None

    def _copied(self, step: Augment, given: Extent | None) -> Extent | None:
        if given is None:
            return None
        count = round(given.count * self.copies.get(step.key, 1.0))
        cases = [given.cases[n % given.count] for n in range(count)]
        named = tuple((f"{case}+{n}", center) for n, (case, center) in enumerate(cases))
        return replace(given, cases=named)

    def _kept(self, step: Step, most: Extent | None) -> Extent | None:
        """The cases there really are, where the step has been made."""
        stored = cohort_in(self.store.path(step.key))
        if most is None or stored is None:
            return most
        return replace(most, cases=tuple((case.case, case.center) for case in stored.cases))


def cohort_in(folder: Path) -> Cohort | None:
    """The cohort in the folder of a stored step, if there is one."""
    with suppress(OSError, ValueError, KeyError):
        return Cohort.load(folder)
    return None


def typical_grid(images: Sequence[Path], grid_of: Callable[[Path], Grid]) -> Grid:
    """The grid of an image of median size; a few headers are read."""
    grids = [grid_of(path) for path in images[:: -(-len(images) // HEADERS)]]
    return sorted(grids, key=lambda grid: math.prod(grid.shape))[len(grids) // 2]


def _prepared(step: Prepare) -> Extent | None:
    if isinstance(step.data, MakePhantom):
        return _of_phantom(step, step.data)
    assert isinstance(step.data, DataFolder)
    root = step.data.root
    scans = step.scans(lambda data: root)
    images = [scan.image for scan in scans]
    grid = typical_grid(images, lambda path: load_grid(path, step.intake, step.series))
    native = Lattice(grid.shape, grid.spacing_mm)
    view, canonical = closest_canonical(np.broadcast_to(np.float32(0), grid.shape), grid.affine)
    upright = Lattice(view.shape, spacing_of(canonical))
    cases = tuple((scan.case, scan.center) for scan in scans)
    return Extent(cases, _common(upright, step.options), native, step.labels is not None)


def _of_phantom(step: Prepare, phantom: MakePhantom) -> Extent | None:
    from crossmod.phantom.cohort import IMAGES
    from crossmod.phantom.scanner import CENTERS

    folder = Path(step.images).parent
    split = next((split for split, path in IMAGES.items() if path == folder), None)
    if split is None:
        return None
    protocols = [one.source if split == "source" else one.target for one in CENTERS]
    native = Lattice(protocols[0].shape, protocols[0].spacing_mm)
    names = [f"{CENTERS[n % 2].prefix}_{n}" for n in range(getattr(phantom.size, split))]
    cases = tuple((name, _center_of(name, step.centers)) for name in names)
    return Extent(cases, _common(native, step.options), native, step.labels is not None)


def _common(native: Lattice, options: Preprocess) -> Lattice:
    """The grid that images are brought onto; where the crop lies makes no difference."""
    whole = options.model_copy(update={"crop": None})
    nothing = np.broadcast_to(np.float32(0), native.shape)
    shape = common_grid(nothing, np.diag([*native.spacing_mm, 1.0]), whole).shape
    if options.crop is not None:
        shape = (*options.crop, *shape[2:])
    return Lattice(shape, tuple(options.spacing_mm))


def _center_of(case: str, centers: Mapping[str, str]) -> str:
    return next((name for name, pattern in centers.items() if fnmatchcase(case, pattern)), "")


def stored_load(store: Store, manifest: Mapping[str, Any]) -> tuple[int, Lattice] | None:
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
    before = (read_manifest(store.path(key)) for key in keys)
    through = (stored_load(store, one) for one in before if one)
    return next((found for found in through if found), None)


def _images(store: Store, key: str) -> list[Path]:
    cohort = cohort_in(store.path(key))
    return [case.image for case in cohort.cases] if cohort else []


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the manifest of a stored step says; its files are not looked at."""
    with suppress(OSError, ValueError):
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        if "content" in content and "seconds" in content:
            return content
    return None
