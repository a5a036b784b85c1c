"""From scans as they were shipped to cohorts on a common grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.classes import Classes
from crossmod.data import CohortWriter, Volume, read_affine, read_image, read_labels
from crossmod.dataset import Scan, find_scans
from crossmod.preprocess import Preprocess, to_common
from crossmod.recipe_model import EmbeddedCohort
from crossmod.stages import Context
from crossmod.steps.base import Step, Where


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


@dataclass(frozen=True, kw_only=True)
class Prepare(Step):
    """Bring the scans of one split onto the common grid."""

    data: Step
    images: str
    labels: str | None
    centers: Mapping[str, str]
    classes: Classes
    options: Preprocess

    code_version = 2

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
        }

    def scans(self, folder_of: Where) -> list[Scan]:
        """The scans of this split."""
        return find_scans(folder_of(self.data), self.images, self.labels, self.centers)

    def make(self, folder_of: Where, ctx: Context) -> None:
        writer = CohortWriter(ctx.folder, self.classes.labels)
        for scan in ctx.progress(self.scans(folder_of)):
            labels = self.classes.to_labels(read_labels(scan.labels)) if scan.labels else None
            data, labels, affine = to_common(
                read_image(scan.image)[0], labels, read_affine(scan.image), self.options
            )
            image = Volume.of(data[np.newaxis], affine, case=scan.case, center=scan.center)
            writer.add(image, labels=labels)
        writer.close()
