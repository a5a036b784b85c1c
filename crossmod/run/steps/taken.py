"""A cohort made of cases that other steps have made: their files are linked, nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossmod.data.cases import copied_from
from crossmod.data.cohorts import Case, Cohort
from crossmod.files.copies import link_or_copy
from crossmod.run.steps.base import Step
from crossmod.run.steps.extents import Extent, Extents
from crossmod.stages.context import Context
from crossmod.store.store import Store


def taken(case: Case, folder: Path, suffix: str = "") -> Case:
    """A case of another step, under a name of its own in the folder of this one."""

    def linked(path: Path) -> Path:
        ending = path.name.removeprefix(case.case)
        target = folder / path.parent.name / f"{case.case}{suffix}{ending}"
        target.parent.mkdir(exist_ok=True)
        link_or_copy(path, target)
        return target

    labels, ignore = (path and linked(path) for path in (case.labels, case.ignore))
    name, image = case.case + suffix, linked(case.image)
    return replace(case, case=name, image=image, labels=labels, ignore=ignore)


@dataclass(frozen=True, kw_only=True)
class Originals(Step):
    """The images that stay in the training: those that have no copy in their place.

    Attributes:
        images: what was copied from.
        copies: steps whose copies stand in the place of their originals.
    """

    images: Step
    copies: tuple[Step, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    def make(self, store: Store, ctx: Context) -> None:
        cohort = Cohort.load(self.images.folder(store))
        names = {case.case for case in cohort.cases}
        made = [Cohort.load(step.folder(store)) for step in self.copies]
        gone = {copied_from(case.case, names) for copies in made for case in copies.cases}
        kept = [taken(case, ctx.folder) for case in cohort.cases if case.case not in gone]
        Cohort(tuple(kept), cohort.classes).save(ctx.folder)
        ctx.log(f"{len(kept)} of {len(cohort)} images stay in the training beside copies")

    def extent(self, extents: Extents) -> Extent | None:
        return extents.of(self.images)  # at most

    def disk_bytes(self, extents: Extents) -> int:
        del extents
        return 0  # links to what is there
