"""One step of a run folder: what it made, said and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.curves import LOG, curves_of, read_rows
from crossmod.errors import DataError, MachineError, with_extra
from crossmod.files.atomic import MANIFEST, read_manifest
from crossmod.notebook.damage import naming
from crossmod.notebook.figure import Curves
from crossmod.notebook.tables import table


@dataclass(frozen=True)
class OpenStep:
    """The result of a step.

    Attributes:
        name: of the step, e.g. "translate-gan".
        folder: where its files lie; they are read, never changed.
    """

    name: str
    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was noted when it was made: settings, seconds, device, files and their digests."""
        return read_manifest(self.folder)

    @property
    def seconds(self) -> float:
        """How long it took when it was made.

        Raises:
            DataError: its manifest is damaged.
        """
        with naming(self.folder / MANIFEST):
            return float(self.manifest["seconds"])

    @property
    def log(self) -> list[str]:
        """What its plugin said."""
        return list(self.manifest.get("log", []))

    def metrics(self) -> Any:
        """What it noted while it worked, such as losses: a table as `OpenRun.scores` gives.

        Raises:
            DataError: its file is damaged.
        """
        return table(self._rows())

    def curves(self) -> Curves:
        """Its losses and other numbers over the steps of its training, which a notebook draws.

        Raises:
            DataError: the step trained nothing, or its file is damaged.
        """
        found = curves_of(self._rows())
        if not found:
            raise DataError("trained nothing", where=self.name, allowed="train- and -fit steps")
        return Curves(self.name, found)

    def cohort(self) -> Cohort:
        """Its images, and label maps where there are any.

        Raises:
            DataError: the step made none, or their list is damaged.
        """
        if not (self.folder / Cohort.MANIFEST).is_file():
            raise DataError(
                "made no images",
                where=self.name,
                allowed="prepare-, translate-, augment- and pseudo-label- steps",
            )
        with naming(self.folder / Cohort.MANIFEST):
            return Cohort.load(self.folder)

    def subjects(self) -> list[Any]:
        """Its cases as TorchIO subjects, whose files are read when they are first used.

        Each holds ``image`` and, where there is one, the label map ``labels``; and ``case``,
        ``patient``, ``center`` and ``weight``.

        Raises:
            DataError: the step made no images.
            MachineError: TorchIO is not installed.
        """
        cohort = self.cohort()
        try:
            torchio = import_module("torchio")
        except ImportError as error:
            raise MachineError(
                "subjects need TorchIO, which is not installed", fix=with_extra("notebook")
            ) from error
        return [_subject(torchio, case) for case in cohort.cases]

    def label_maps(self) -> dict[str, Path]:
        """Case -> file of what a predict- step outlined, on the grid of the scan.

        Raises:
            DataError: the step outlined nothing.
        """
        found = sorted(self.folder.glob("labels/*.nii.gz"))
        if not found:
            raise DataError("outlined nothing", where=self.name, allowed="predict- steps")
        return {path.name.removesuffix(".nii.gz"): path for path in found}

    def _rows(self) -> list[dict[str, Any]]:
        with naming(self.folder / LOG):
            return read_rows(self.folder)


def _subject(torchio: Any, case: Case) -> Any:
    images = {"image": torchio.ScalarImage(case.image)}
    if case.labels is not None:
        images["labels"] = torchio.LabelMap(case.labels)
    about = {"case": case.case, "patient": case.patient, "center": case.center}
    return torchio.Subject(**images, **about, weight=case.weight)
