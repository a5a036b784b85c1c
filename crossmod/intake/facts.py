"""What one pass over a file tells of it, kept by the digest of its bytes."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossmod.data.grids import Grid
from crossmod.errors import DataError, MachineError, reading
from crossmod.files.atomic import write_file
from crossmod.files.digests import digest_of, digest_of_bytes
from crossmod.intake.labels import load_labels
from crossmod.intake.nifti.payload import slabs
from crossmod.intake.options import Intake
from crossmod.intake.results import LabelMap, Loaded
from crossmod.intake.scans import load_scan

VERSION = 2
"""Raise it when files are judged differently."""

FEW = 10
"""A scan has more different values than this; a label map has fewer."""

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
    """

    kind: Kind
    digest: str
    pixels: str
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    values: tuple[int, ...]
    remarks: tuple[str, ...]

    @cached_property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, np.array(self.affine))

    @property
    def labels(self) -> set[int]:
        """The values as a set; empty for a scan."""
        return set(self.values)


@dataclass(frozen=True)
class Inspector:
    """Looks at files once, and remembers what it saw.

    Attributes:
        options: what is done with files that are not as they should be.
        memory: the folder of what was seen before, or None.
        digests: file -> digest; files that are in it are not read again for theirs, others are
            added. None: every look takes the digest anew.
    """

    options: Intake
    memory: Path | None = None
    digests: dict[Path, str] | None = None

    def facts(self, path: Path, kind: Kind, series: str = "") -> Facts:
        """The facts of one file.

        Raises:
            DataError: it cannot be trusted.
        """
        digest = self._digest(path)
        note = self._note(path.suffix, digest, kind, series)
        if note and (known := _recalled(note)):
            return known
        found = self._seen(path, digest, kind, series)
        if note:
            _keep(note, found)
        return found

    def _digest(self, path: Path) -> str:
        known = {} if self.digests is None else self.digests
        if path not in known:
            with reading(f"{path}: file"):
                # Of what is neither, such as a pipe, loading it says what it is.
                known[path] = digest_of(path) if path.is_file() or path.is_dir() else ""
        return known[path]

    def _seen(self, path: Path, digest: str, kind: Kind, series: str) -> Facts:
        read: Loaded | LabelMap
        if kind == "scan":
            read = scan = load_scan(path, self.options, series)
            data, values = scan.data, _few_values(scan.data)
        else:
            read = labels = load_labels(path, self.options)
            data, values = labels.labels, _values(labels.labels)  # type: ignore[assignment]
        if path.is_file() and read.digest != digest:
            raise DataError("changed while it was looked at", where=f"{path}: content")
        rows = tuple(tuple(map(float, row)) for row in read.affine)
        return Facts(kind, digest, _pixels(data), data.shape, rows, values, read.remarks)

    def _note(self, *asked: str) -> Path | None:
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


def _keep(note: Path, facts: Facts) -> None:
    with suppress(OSError, MachineError):  # what cannot be remembered is looked at again
        note.parent.mkdir(parents=True, exist_ok=True)
        write_file(note, json.dumps(asdict(facts)))


def _pixels(data: NDArray[Any]) -> str:
    whole = hashlib.sha256(repr((data.shape, data.dtype.str)).encode())
    whole.update(np.ravel(data, order="F").data)
    return whole.hexdigest()


def _few_values(data: NDArray[np.float32]) -> tuple[int, ...]:
    """The values of a scan that holds only a few whole numbers, as label maps do."""
    low, high = data.min(), data.max()
    if low < 0 or high > 255 or high - low > FEW:
        return ()
    if not all(np.array_equal(part, np.rint(part)) for part in slabs(data)):
        return ()
    return _values(data)


def _values(labels: NDArray[np.uint8 | np.float32]) -> tuple[int, ...]:
    """The whole numbers from 0 to 255 that an array holds."""
    counts = np.zeros(256, np.int64)
    for part in slabs(labels):
        counts += np.bincount(part.astype(np.uint8, copy=False), minlength=256)
    return tuple(map(int, np.flatnonzero(counts)))
