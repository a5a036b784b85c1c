"""What one pass over a file tells of it, kept by the digest of its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossmod.data.classes import Classes
from crossmod.data.grids import Grid, Preprocess
from crossmod.data.lesions import components
from crossmod.data.volumes import Affine, LabelArray
from crossmod.errors import DataError, MachineError, reading
from crossmod.files.atomic import write_file
from crossmod.files.digests import digest_of_bytes
from crossmod.intake.formats.read import digest_of_image
from crossmod.intake.labels import load_labels
from crossmod.intake.losses import Way, counts_of, follow, safe_part
from crossmod.intake.options import Intake
from crossmod.intake.results import LabelMap, Loaded
from crossmod.intake.scans import few_values, load_scan

VERSION = 3
"""Raise it when files are judged differently."""

PARTS = 10
"""Components of a class whose sizes are noted."""

Kind = Literal["scan", "labels"]


@dataclass(frozen=True)
class Facts:
    """What is known of a file that can be trusted.

    Attributes:
        kind: what it is.
        digest: sha256 of the file, or of all files of a folder.
        pixels: digest of grid size and values, however they are compressed.
        shape: voxels ``(I, J, K)``.
        affine: rows of voxel -> RAS+ mm.
        values: of a label map, and of a scan that looks like one, the values it holds.
        remarks: what was not as it should be and could be mended.
        counts: of a label map, how many voxels have each of the values.
        boxes: of a label map, where each of the values from 1 on lies: from start to stop along
            each axis.
        parts: of a label map, for each class of which predictions keep only the largest component,
            the voxels of its largest components, in descending order.
        kept: shape and affine of the part of a scan that the crop keeps for certain.
    """

    kind: Kind
    digest: str
    pixels: str
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    values: tuple[int, ...]
    remarks: tuple[str, ...]
    counts: tuple[int, ...] = ()
    boxes: tuple[tuple[tuple[int, int], ...], ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()
    kept: tuple[Any, Any] | None = None

    @cached_property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, np.array(self.affine))

    @property
    def labels(self) -> set[int]:
        """The values as a set; empty for a scan."""
        return set(self.values)

    @cached_property
    def safe(self) -> Grid | None:
        """The part of a scan that the crop keeps for certain; None where that is not known."""
        return Grid(self.kept[0], np.array(self.kept[1])) if self.kept else None

    def voxels_of(self, values: Iterable[int]) -> int:
        """How many voxels of a label map have one of these values."""
        known = dict(zip(self.values, self.counts, strict=True))
        return sum(known.get(value, 0) for value in values)

    def box_of(self, values: Iterable[int]) -> NDArray[np.int64] | None:
        """Where these values lie in a label map, start and stop ``(3, 2)``; None if nowhere."""
        known = dict(zip([value for value in self.values if value], self.boxes, strict=True))
        found = np.array([known[value] for value in values if value in known])
        if not found.size:
            return None
        return np.stack([found[..., 0].min(axis=0), found[..., 1].max(axis=0)], axis=1)


@dataclass(frozen=True)
class Inspector:
    """Looks at files once, and remembers what it saw.

    Attributes:
        options: what is done with files that are not as they should be.
        memory: the folder of what was seen before, or None.
        digests: file -> digest; files that are in it are not read again for theirs, others are
            added. None: every look takes the digest anew.
        single: the values of each class of which predictions keep only the largest component.
        grids: scan -> the common grid that it is brought onto, for scans with label maps.
    """

    options: Intake
    memory: Path | None = None
    digests: dict[Path, str] | None = None
    single: tuple[tuple[int, ...], ...] = ()
    grids: Mapping[Path, Preprocess] = field(default_factory=dict)

    def facts(self, path: Path, kind: Kind, series: str = "") -> Facts:
        """The facts of one file.

        Raises:
            DataError: it cannot be trusted.
        """
        digest = self._digest(path)
        grid = self.grids.get(path)
        further = grid.model_dump(mode="json") if grid else self.single if kind == "labels" else ()
        note = self._note(path.suffix, digest, kind, series, further)
        if note and (known := _recalled(note)):
            return known
        found = self._seen(path, digest, kind, series)
        if note:
            _keep(note, asdict(found))
        return found

    def ways(
        self, pair: tuple[Path, Path], series: str, grid: Preprocess, classes: Classes
    ) -> list[Way]:
        """What becomes of each class of a label map on its way to the common grid.

        Args:
            pair: the scan and its label map.
            series: of the scan.
            grid: the common grid.
            classes: names and values.

        Raises:
            DataError: the label map lies on another grid and nothing of it within the scan.
        """
        names = {name: list(values) for name, values in classes.values.items()}
        asked = (*map(self._digest, pair), series, grid.model_dump(mode="json"), names)
        note = self._note("ways", *asked)
        with suppress(OSError, ValueError, TypeError):
            if note:
                return [Way(*row) for row in json.loads(note.read_text("utf-8"))]
        found = follow(pair, series, self.options, grid, classes)
        if note:
            _keep(note, [astuple(way) for way in found])
        return found

    def _digest(self, path: Path) -> str:
        known = {} if self.digests is None else self.digests
        if path not in known:
            with reading(f"{path}: file"):
                # Of what is neither, such as a pipe, loading it says what it is.
                known[path] = digest_of_image(path) if path.is_file() or path.is_dir() else ""
        return known[path]

    def _seen(self, path: Path, digest: str, kind: Kind, series: str) -> Facts:
        read: Loaded | LabelMap
        more: dict[str, Any]
        if kind == "scan":
            read = scan = load_scan(path, self.options, series)
            pixels, shape = _pixels(scan.data), scan.data.shape
            more = {"values": few_values(scan.data), "kept": self._kept(path, scan)}
        else:
            read = labels = load_labels(path, self.options)
            pixels, shape = _pixels(labels.labels), labels.labels.shape
            more = _classes_in(labels.labels, self.single)
        if path.is_file() and read.digest != digest:
            raise DataError("changed while it was being read", where=f"{path}: content")
        return Facts(kind, digest, pixels, shape, _rows(read.affine), remarks=read.remarks, **more)

    def _kept(self, path: Path, scan: Loaded) -> tuple[Any, Any] | None:
        """The part that the crop keeps for certain, of a scan with a label map."""
        options = self.grids.get(path)
        part = safe_part(scan.data, scan.affine, options) if options else None
        return (part.shape, _rows(part.affine)) if part else None

    def _note(self, *asked: Any) -> Path | None:
        """Where it is noted; a remark may be about how the name ends."""
        if self.memory is None:
            return None
        everything = [VERSION, *asked, self.options.model_dump(mode="json")]
        name = digest_of_bytes(json.dumps(everything))[:40]
        return self.memory / f"{name}.json"


def _recalled(note: Path) -> Facts | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Facts(
            **{name: _frozen(v) for name, v in json.loads(note.read_text("utf-8")).items()}
        )
    return None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _keep(note: Path, found: object) -> None:
    with suppress(OSError, MachineError):  # what cannot be remembered is looked at again
        note.parent.mkdir(parents=True, exist_ok=True)
        write_file(note, json.dumps(found))


def _pixels(data: NDArray[Any]) -> str:
    whole = hashlib.sha256(repr((data.shape, data.dtype.str)).encode())
    whole.update(np.ravel(data, order="F").data)
    return whole.hexdigest()


def _classes_in(labels: LabelArray, single: Iterable[tuple[int, ...]]) -> dict[str, Any]:
    """Values, counts, boxes and parts of a label map."""
    from scipy import ndimage

    counts = counts_of(labels)
    values = np.flatnonzero(counts).tolist()
    box = _outline(labels)
    inner = labels[box]
    found = ndimage.find_objects(inner) if inner.size else []
    starts = [one.start for one in box]
    boxes = [
        tuple((a + one.start, a + one.stop) for a, one in zip(starts, part, strict=True))
        for part in found
        if part
    ]
    return {
        "values": tuple(values),
        "counts": tuple(counts[values].tolist()),
        "boxes": tuple(boxes),
        "parts": tuple(_components(inner, one) for one in single),
    }


def _outline(labels: LabelArray) -> tuple[slice, ...]:
    """The smallest box around all that is not background; empty if there is nothing else."""
    spans, part = [slice(0, n) for n in labels.shape], labels
    for axis in (2, 1, 0):  # slices first: most of them are empty, and they lie in one piece
        used = np.flatnonzero(part.max(axis=tuple({0, 1, 2} - {axis})))
        spans[axis] = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
        if not used.size:
            break
        part = labels[tuple(spans)]
    return tuple(spans)


def _components(labels: LabelArray, values: Iterable[int]) -> tuple[int, ...]:
    """Voxels of the largest components of the structure that has these values."""
    mask = np.isin(labels, list(values))
    sizes = np.bincount(components(mask).ravel())[1:] if mask.any() else np.array([], int)
    return tuple(np.sort(sizes)[::-1][:PARTS].tolist())


def _rows(affine: Affine) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in affine)
