"""From scans as they were shipped to cohorts on a common grid."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossmod.data.cases import patient_of
from crossmod.data.choice import ALL, CaseList, Choice
from crossmod.data.classes import Classes
from crossmod.data.cohorts import Case, CohortWriter
from crossmod.data.folder import Scan, find_scans
from crossmod.data.form import Form
from crossmod.data.grids import Grid, Preprocess, common_shape, to_common
from crossmod.data.volumes import LabelArray, Volume, spacing_of
from crossmod.errors import DataError, elided
from crossmod.files.digests import digest_of
from crossmod.files.patterns import files_of
from crossmod.intake import FileFault, Intake, load_grid, load_labels, load_scan, on_grid
from crossmod.intake.losses import counts_of, ways
from crossmod.lanes import lanes
from crossmod.recipe.model import EmbeddedCohort
from crossmod.run.steps.base import Step
from crossmod.run.steps.extents import Extent, Extents, Lattice, typical_grid
from crossmod.stages.context import Context
from crossmod.store.store import Store

SCAN_BYTES = 2_500_000
"""Of a case of the embedded cohort."""

GRIDS = "grids.json"


class ScanSource(Step):
    """Where scans come from."""

    def require_same_files(
        self, patterns: Iterable[str], cases: Collection[str] | None = None
    ) -> None:
        """Check that the files which match are those of the intake; the store looks after its own.

        Args:
            patterns: of the files.
            cases: those that take part; None where all do.

        Raises:
            DataError: some were added or removed.
        """

    def require_unchanged(self, path: Path, digest: str) -> None:
        """Check that a file that was read is the one that the plan was made for.

        Raises:
            DataError: it is another one by now.
        """

    def has_reference(self, path: Path) -> bool:
        """Whether there is a label map to score against."""
        return path.is_file()

    @abstractmethod
    def scanned(self, split: Prepare, store: Store) -> tuple[dict[str, str], Grid]:
        """Case -> center of a split, empty where that is not known; the grid of a typical scan."""


@dataclass(frozen=True, kw_only=True)
class MakePhantom(ScanSource):
    """Make the embedded cohort in the CrossMoDA 2022 folder layout."""

    size: EmbeddedCohort
    code: str

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"size": self.size.model_dump(), "code": self.code}

    def make(self, store: Store, ctx: Context) -> None:
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

    def scanned(self, split: Prepare, store: Store) -> tuple[dict[str, str], Grid]:
        from crossmod.phantom.cohort import IMAGES
        from crossmod.phantom.scanner import CENTERS

        folder = Path(split.images).parent
        name = next((name for name, path in IMAGES.items() if path == folder), "")
        protocol = CENTERS[0].source if name == "source" else CENTERS[0].target
        cases = [f"{CENTERS[n % 2].prefix}_{n}" for n in range(getattr(self.size, name, 0))]
        centers = split.centers.items()
        of = {c: next((n for n, one in centers if fnmatchcase(c, one)), "") for c in cases}
        return of, Grid(protocol.shape, np.diag([*protocol.spacing_mm, 1.0]))

    def disk_bytes(self, extents: Extents) -> int | None:
        return self.cases_of(self.settings) * SCAN_BYTES

    def cases_of(self, settings: Mapping[str, Any]) -> int:
        return sum(int(settings["size"][split]) for split in ("source", "target", "validation"))


@dataclass(frozen=True, kw_only=True)
class DataFolder(ScanSource):
    """Scans that lie in a folder of the user; nothing is made, their digests are the key."""

    stored = False

    root: Path
    digests: Mapping[str, str]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"files": self.digests}

    def make(self, store: Store, ctx: Context) -> None:
        raise NotImplementedError("a data folder is read where it lies")

    def folder(self, store: Store) -> Path:
        return self.root

    def file_digests(self, store: Store) -> Mapping[str, str]:
        return self.digests

    def require_same_files(
        self, patterns: Iterable[str], cases: Collection[str] | None = None
    ) -> None:
        files = files_of(self.root, patterns, cases)
        found = {path.relative_to(self.root).as_posix() for path in files}
        if differing := sorted(found ^ self.digests.keys()):
            raise _changed(f"{self.root}: {elided(differing)}")

    def require_unchanged(self, path: Path, digest: str) -> None:
        found = digest_of(path) if path.is_dir() else digest
        if found != self._digest_at_intake(path):
            raise _changed(f"{path}: content")

    def has_reference(self, path: Path) -> bool:
        known = self._digest_at_intake(path)
        if known and not path.is_file():
            self.require_unchanged(path, "")
        return bool(known)

    def scanned(self, split: Prepare, store: Store) -> tuple[dict[str, str], Grid]:
        scans = split.scans(store)
        images = [scan.image for scan in scans]
        grid = typical_grid(images, lambda path: load_grid(path, split.intake, split.series))
        return {scan.case: scan.center for scan in scans}, grid

    def _digest_at_intake(self, path: Path) -> str | None:
        """The digest of a file when the plan was made; None where there was no such file."""
        return self.digests.get(path.relative_to(self.root).as_posix())


def _changed(where: str) -> DataError:
    return DataError(
        "changed since the intake",
        where=where,
        fix="rerun, and do not modify the data during a run",
    )


@dataclass(frozen=True, kw_only=True)
class Prepare(Step):
    """Bring the scans of one split onto the common grid."""

    data: ScanSource
    images: str
    labels: str | None
    centers: Mapping[str, str]
    classes: Classes
    options: Preprocess
    intake: Intake
    series: str = ""
    patients: str | None = None
    cases: tuple[str, ...] | None = None

    code_version = 4

    @property
    def settings(self) -> Mapping[str, Any]:
        chosen = {} if self.cases is None else {"cases": list(self.cases)}
        # The finder changed for scans whose air is not 0, as it is in the embedded cohort.
        found = self.options.crop and self.options.center == "head" and not self.data.stored
        return {
            **chosen,
            **({"finder": 2} if found else {}),
            "images": self.images,
            "labels": self.labels,
            "centers": dict(self.centers),
            "classes": {name: list(values) for name, values in self.classes.values.items()},
            "options": self.options.content,
            "intake": self.intake.model_dump(exclude={"limits"}),
            "series": self.series,
            "patients": self.patients,
        }

    @property
    def choice(self) -> Choice:
        """The cases that take part, as the plan found them."""
        return ALL if self.cases is None else Choice(CaseList(ids=self.cases))

    def scans(self, store: Store) -> list[Scan]:
        """The scans of this split.

        Raises:
            DataError: files were added or removed since the intake.
        """
        self.data.require_same_files(filter(None, (self.images, self.labels)), self.cases)
        root = self.data.folder(store)
        return find_scans(root, self.images, self.labels, self.centers, self.choice)

    def make(self, store: Store, ctx: Context) -> None:
        writer = CohortWriter(ctx.folder, self.classes.labels)
        grids: dict[str, Native] = {}
        scans = self.scans(store)
        with lanes(min(ctx.cores(), len(scans))) as side_by_side:
            written = side_by_side(partial(self._write, writer), scans)
            for scan in ctx.progress(scans):
                case, grids[scan.case] = next(written)
                writer.cases.append(case)
        save_grids(ctx.folder, grids)
        writer.close()

    def _write(self, writer: CohortWriter, scan: Scan) -> tuple[Case, Native]:
        """Prepare one scan, and tell where it came from."""
        found = load_scan(scan.image, self.intake, self.series)
        native = Grid(found.data.shape, found.affine)
        self.data.require_unchanged(scan.image, found.digest)
        given = self._labels(scan.labels, native) if scan.labels else None
        most, on_scan = self.intake.limits.max_voxels, given and given.on_scan
        data, labels, affine = to_common(found.data, on_scan, found.affine, self.options, most)
        if given and labels is not None:
            self._require_kept(scan, given, native, Grid(labels.shape, affine), labels)
        image = Volume.of(data[np.newaxis], affine, case=scan.case, center=scan.center)
        case = writer.write(image, labels=labels, patient=self._patient(scan.case))
        return case, Native(native, found.form)

    def extent(self, extents: Extents) -> Extent | None:
        cases, scanned = self.data.scanned(self, extents.store)
        if not cases:
            return None
        native = Lattice(scanned.shape, scanned.spacing_mm)
        shape = tuple(common_shape(scanned, self.options).astype(int).tolist())
        lattice = Lattice(shape, tuple(self.options.spacing_mm))
        return Extent(tuple(cases.items()), lattice, native, self.labels is not None)

    def _patient(self, case: str) -> str:
        patient = patient_of(case, self.patients)
        if patient is None:
            raise DataError(f"does not match data.patients = '{self.patients}'", where=case)
        return patient

    def _labels(self, path: Path, native: Grid) -> Given:
        found = load_labels(path, self.intake)
        self.data.require_unchanged(path, found.digest)
        try:
            labels, _ = on_grid(found, native, self.intake.resample_labels)
        except FileFault as fault:
            raise fault.of(path) from fault
        of = self.classes.to_labels
        return Given(path, of(found.labels), math.prod(spacing_of(found.affine)), of(labels))

    def _require_kept(
        self, scan: Scan, given: Given, native: Grid, crop: Grid, labels: LabelArray
    ) -> None:
        """Check that every class of a label map is in the one to learn from.

        Raises:
            DataError: names the case, the class and what took it away.
        """
        if not ((counts_of(given.labels) > 0) & (counts_of(labels) == 0))[1:].any():
            return
        here = (given.on_scan, native)
        for way in ways(given.labels, given.voxel_mm3, here, crop, self.classes, self.options):
            if fault := way.loss(scan.case, self.options):
                raise fault.of(given.path)


class Given(NamedTuple):
    """A label map as it was shipped.

    Attributes:
        path: the file.
        labels: the labels of classes ``(I, J, K)``.
        voxel_mm3: the volume of one of its voxels.
        on_scan: the same labels on the grid of the scan.
    """

    path: Path
    labels: LabelArray
    voxel_mm3: float
    on_scan: LabelArray


class Native(NamedTuple):
    """Where a scan lies.

    Attributes:
        grid: its voxels.
        form: how its header says it; None if it is not a NIfTI file, or was prepared by an older
            version.
    """

    grid: Grid
    form: Form | None = None

    @property
    def row(self) -> dict[str, Any]:
        """As JSON."""
        fields = self.form.fields if self.form else None
        return {"shape": self.grid.shape, "affine": self.grid.affine.tolist(), "form": fields}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Native:
        """From JSON."""
        grid = Grid(tuple(row["shape"]), np.array(row["affine"]))
        fields = row.get("form")
        return cls(grid, Form(fields) if fields else None)


def save_grids(folder: Path, grids: Mapping[str, Native]) -> None:
    """Note where each scan lies, so that nothing has to read the scans for it again."""
    rows = {case: native.row for case, native in grids.items()}
    (folder / GRIDS).write_text(json.dumps(rows), encoding="utf-8")


def load_grids(folder: Path) -> dict[str, Native]:
    """Case -> where the scan lies."""
    rows = json.loads((folder / GRIDS).read_text(encoding="utf-8"))
    return {case: Native.of(row) for case, row in rows.items()}
