"""From scans as they were shipped to cohorts on a common grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data.cases import patient_of
from crossmod.data.classes import Classes
from crossmod.data.folder import Scan, find_scans
from crossmod.data.grids import Grid, Preprocess, to_common
from crossmod.data.volumes import CohortWriter, LabelArray, Volume
from crossmod.errors import DataError
from crossmod.files.digests import digest_of
from crossmod.files.patterns import files_of
from crossmod.intake import FileFault, Intake, load_labels, load_scan, on_grid
from crossmod.recipe.model import EmbeddedCohort
from crossmod.run.steps.base import Step, Where
from crossmod.run.steps.files import save_grids
from crossmod.stages.base import Context

SHOWN = 5
"""Files that a message names."""


@dataclass(frozen=True, kw_only=True)
class MakePhantom(Step):
    """Make the embedded cohort in the CrossMoDA 2022 folder layout."""

    size: EmbeddedCohort
    code: str

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"size": self.size.model_dump(), "code": self.code}

    def make(self, folder_of: Where, ctx: Context) -> None:
        from crossmod.phantom import write_cohort

        size = self.size
        write_cohort(
            ctx.folder,
            source=size.source,
            target=size.target,
            validation=size.validation,
            seed=size.seed,
            progress=lambda items, total: ctx.progress(items, total=total),
        )


@dataclass(frozen=True, kw_only=True)
class DataFolder(Step):
    """Scans that lie in a folder of the user; nothing is made, their digests are the key."""

    root: Path
    digests: Mapping[str, str]

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"files": self.digests}

    def make(self, folder_of: Where, ctx: Context) -> None:
        raise NotImplementedError("a data folder is read where it lies")

    def require_same_files(self, patterns: Iterable[str]) -> None:
        """Hold the files that are there against those of the intake.

        Raises:
            DataError: some have come or gone.
        """
        found = {path.relative_to(self.root).as_posix() for path in files_of(self.root, patterns)}
        if differing := sorted(found ^ self.digests.keys()):
            names = ", ".join(differing[:SHOWN]) + ", …" * (len(differing) > SHOWN)
            raise _changed(f"{self.root}: {names}")

    def digest_at_intake(self, path: Path) -> str | None:
        """The digest of a file when the plan was made; None where there was no such file."""
        return self.digests.get(path.relative_to(self.root).as_posix())


def _changed(where: str) -> DataError:
    return DataError(
        "changed since the intake",
        where=where,
        fix="run again; leave the data alone while a run works on them",
    )


def require_unchanged(data: Step, path: Path, digest: str) -> None:
    """Hold a file that was read against what the plan was made for.

    Raises:
        DataError: it is another one by now.
    """
    if not isinstance(data, DataFolder):
        return  # the store has looked at it
    found = digest_of(path) if path.is_dir() else digest
    if found != data.digest_at_intake(path):
        raise _changed(f"{path}: content")


@dataclass(frozen=True, kw_only=True)
class Prepare(Step):
    """Bring the scans of one split onto the common grid."""

    data: Step
    images: str
    labels: str | None
    centers: Mapping[str, str]
    classes: Classes
    options: Preprocess
    intake: Intake
    series: str = ""
    patients: str | None = None

    code_version = 4

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (self.data,)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "images": self.images,
            "labels": self.labels,
            "centers": dict(self.centers),
            "classes": {name: list(values) for name, values in self.classes.values.items()},
            "options": self.options.model_dump(),
            "intake": self.intake.model_dump(exclude={"limits"}),
            "series": self.series,
            "patients": self.patients,
        }

    def scans(self, folder_of: Where) -> list[Scan]:
        """The scans of this split.

        Raises:
            DataError: files have come or gone since the intake.
        """
        if isinstance(self.data, DataFolder):
            self.data.require_same_files(filter(None, (self.images, self.labels)))
        return find_scans(folder_of(self.data), self.images, self.labels, self.centers)

    def make(self, folder_of: Where, ctx: Context) -> None:
        writer = CohortWriter(ctx.folder, self.classes.labels)
        grids = {}
        for scan in ctx.progress(self.scans(folder_of)):
            found = load_scan(scan.image, self.intake, self.series)
            native = Grid(found.data.shape, found.affine)
            require_unchanged(self.data, scan.image, found.digest)
            labels = self._labels(scan.labels, native) if scan.labels else None
            most = self.intake.limits.max_voxels
            data, labels, affine = to_common(found.data, labels, found.affine, self.options, most)
            image = Volume.of(data[np.newaxis], affine, case=scan.case, center=scan.center)
            writer.add(image, labels=labels, patient=self._patient(scan.case))
            grids[scan.case] = native
        save_grids(ctx.folder, grids)
        writer.close()

    def _patient(self, case: str) -> str:
        patient = patient_of(case, self.patients)
        if patient is None:
            raise DataError(f"does not fit data.patients = '{self.patients}'", where=case)
        return patient

    def _labels(self, path: Path, native: Grid) -> LabelArray:
        found = load_labels(path, self.intake)
        require_unchanged(self.data, path, found.digest)
        try:
            labels, _ = on_grid(found, native, self.intake.resample_labels)
        except FileFault as fault:
            raise fault.of(path) from fault
        return self.classes.to_labels(labels)
