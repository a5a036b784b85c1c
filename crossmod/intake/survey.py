"""A whole data set at once: every file, every pair, and what must not be in two places."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.data.classes import Classes
from crossmod.data.folder import Scan
from crossmod.errors import DataError
from crossmod.intake.facts import Facts, Inspector, Kind
from crossmod.intake.labels import difference, rounding
from crossmod.intake.results import FileFault
from crossmod.stages.base import Progress, silent_progress

THREADS = 8
"""Files looked at together at most; unpacking leaves Python's lock to the others."""

HELD_OUT = "validation"
"""The split that no stage may have seen."""

File = tuple[Path, Kind, str]
"""A file, or folder of DICOM files; what it is; which series."""


@dataclass(frozen=True)
class Part:
    """The scans of one split.

    Attributes:
        split: source, target or validation.
        scans: label maps among them are learned from.
        references: case -> label map that is only scored against.
        series: which series of folders of DICOM files.
    """

    split: str
    scans: Sequence[Scan]
    references: Mapping[str, Path] = field(default_factory=dict)
    series: str = ""

    def files(self) -> Iterator[File]:
        """Every file, what it is, and its series."""
        for scan in self.scans:
            yield scan.image, "scan", self.series
            for path in self.maps(scan):
                yield path, "labels", ""

    def maps(self, scan: Scan) -> Iterator[Path]:
        """The label maps of a scan."""
        yield from filter(None, (scan.labels, self.references.get(scan.case)))


@dataclass
class Survey:
    """What is known of a data set.

    Attributes:
        parts: its splits.
        classes: the classes that label maps use.
        facts: file -> what it holds, if it can be trusted.
        problems: what forbids to go on.
        faulty: files of which one of the problems is told.
        remarks: (split, what was not as it should be and could be mended).
    """

    parts: Sequence[Part]
    classes: Classes
    facts: dict[Path, Facts] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    faulty: set[Path] = field(default_factory=set)
    remarks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def digests(self) -> dict[Path, str]:
        """File, or folder of DICOM files -> digest."""
        return {path: facts.digest for path, facts in self.facts.items()}

    @property
    def scan_of(self) -> dict[Path, Path]:
        """Label map -> its scan."""
        return {
            path: scan.image
            for part in self.parts
            for scan in part.scans
            for path in part.maps(scan)
        }

    def require(self) -> None:
        """Go on only with files that can be trusted.

        Raises:
            DataError: names all that is wrong.
        """
        if self.problems:
            count = len(self.problems)
            head = f"{count} problem{'s' if count > 1 else ''} with the data:"
            raise DataError("\n".join([head, *self.problems]))

    def read(self, files: Iterable[File], inspector: Inspector, progress: Progress) -> None:
        """Look at every file."""
        asked = list(dict.fromkeys(files))
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            looks = pool.map(lambda item: self._look(inspector, *item), asked)
            for _ in progress(looks, total=len(asked)):
                pass
        self.problems.sort()

    def _look(self, inspector: Inspector, path: Path, kind: Kind, series: str) -> None:
        try:
            self.facts[path] = inspector.facts(path, kind, series)
        except DataError as error:
            self._refuse(path, error)

    def _refuse(self, path: Path, error: DataError) -> None:
        self.problems.append(str(error))
        self.faulty.add(path)

    def compare(self, resample: bool) -> None:
        """Hold files against each other."""
        for part in self.parts:
            self._compare_grids(part, resample)
            self._look_at_values(part)
        self._find_copies()

    def _compare_grids(self, part: Part, resample: bool) -> None:
        """Label maps that lie elsewhere than their scans."""
        for scan in part.scans:
            self._note(part, scan.image)
            for path in part.maps(scan):
                self._note(part, path)
                if scan.image not in self.facts or path not in self.facts:
                    continue
                grids = self.facts[path].grid, self.facts[scan.image].grid
                fault = difference(*grids)
                if fault is None:
                    self.remarks += [(part.split, f"{path}: {text}") for text in rounding(*grids)]
                elif resample and path == scan.labels:
                    self.remarks.append((part.split, f"{path}: {fault.told}; resampled"))
                else:
                    self._refuse(path, fault.of(path))

    def _note(self, part: Part, path: Path) -> None:
        if path in self.facts:
            self.remarks += [(part.split, f"{path}: {text}") for text in self.facts[path].remarks]

    def _look_at_values(self, part: Part) -> None:
        """Scans that are label maps, label maps without classes, labels of no class."""
        for scan in part.scans:
            if scan.image in self.facts and (few := self.facts[scan.image].labels):
                found = f"holds only the values {_listed(few)}"
                fault = FileFault("voxels", found, "a scan, not a label map")
                self._refuse(scan.image, fault.of(scan.image))
        maps = [path for path in (scan.labels for scan in part.scans) if path in self.facts]
        known = {value for values in self.classes.values.values() for value in values}
        empty = [path for path in maps if not self.facts[path].labels & known]
        if maps and len(empty) == len(maps):
            found = f"all {len(maps)} label maps are empty or hold no class"
            self.problems.append(f"{part.split}: labels: {found}")
        told = "the label map is empty or holds no class"
        self.remarks += [(part.split, f"{path}: labels: {told}") for path in empty]
        if strange := set().union(*(self.facts[path].labels for path in maps)) - known - {0}:
            text = f"values {_listed(strange)} are of no class and count as background"
            self.remarks.append((part.split, f"{part.split}: labels: {text}"))

    def _find_copies(self) -> None:
        """Scans of the same voxels: odd among those learned from, forbidden across the border."""
        same: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for part in self.parts:
            for scan in part.scans:
                if scan.image in self.facts:
                    same[self.facts[scan.image].pixels].append((part.split, scan.image))
        for (split, first), *others in same.values():
            for other, path in others:
                fault = FileFault(
                    "voxels",
                    f"the same as those of {first}",
                    f"scans of {split} and {other} differ",
                )
                if HELD_OUT in (split, other) and split != other:
                    self._refuse(path, fault.of(path))
                else:
                    self.remarks.append((other, f"{path}: {fault.where}: {fault.what}"))


def survey(
    parts: Sequence[Part],
    classes: Classes,
    inspector: Inspector,
    progress: Progress = silent_progress,
) -> Survey:
    """Look at all files of a data set, and hold them against each other.

    Args:
        parts: its splits.
        classes: the classes that label maps use.
        inspector: looks at single files.
        progress: wraps the iteration over files.
    """
    found = Survey(parts, classes)
    found.read((file for part in parts for file in part.files()), inspector, progress)
    found.compare(inspector.options.resample_labels)
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))
