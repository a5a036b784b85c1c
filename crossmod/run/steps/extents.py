"""How much a step works on: cases and voxels, known before anything is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossmod.data.cohorts import Cohort
from crossmod.data.grids import Grid
from crossmod.store.store import Store

if TYPE_CHECKING:
    from crossmod.run.steps.base import Step

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
        """Key of a step that applies a stage -> cases it makes of each one; 1 if not known."""
        self._known: dict[str, Extent | None] = {}

    def of(self, step: Step) -> Extent | None:
        """The cohort a step gives; None if it gives none or nothing is known of it."""
        if step.key not in self._known:
            self._known[step.key] = self._kept(step, step.extent(self))
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

    def _kept(self, step: Step, most: Extent | None) -> Extent | None:
        """The cases there really are, where the step has been made: a stage may drop some."""
        stored = cohort_in(step.folder(self.store)) if most else None
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
