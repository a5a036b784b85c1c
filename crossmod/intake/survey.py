"""A whole data set at once: every file, every pair, and what must not be in two places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from crossmod.data.classes import Classes
from crossmod.data.folder import SEGMENTATION, Scan, ending_of
from crossmod.data.grids import Grid, Preprocess
from crossmod.errors import DataError, counted
from crossmod.intake import extent
from crossmod.intake.classes import missing_classes, remarks_on_classes, strange_values
from crossmod.intake.facts import Facts, Inspector, Kind
from crossmod.intake.labels import difference, load_labels, rounding
from crossmod.intake.losses import may_lose
from crossmod.intake.results import FileFault
from crossmod.lanes import cores, lanes
from crossmod.stages.context import Progress, silent_progress

ItemT = TypeVar("ItemT")

HELD_OUT = "validation"
"""The split that no stage may have seen."""

REGRID = (
    "resample it to the grid of its scan, nearest neighbor; only labels of the source are resampled"
)
"""What to do about references on another grid: scores count their voxels as they are."""

File = tuple[Path, Kind, str]
"""A file, or folder of DICOM files; what it is; which series."""


@dataclass(frozen=True)
class Part:
    """The scans of one split.

    Attributes:
        split: source, target or validation.
        scans: label maps among them are learned from.
        references: case -> label map that is scored against.
        series: which series of folders of DICOM files.
        grid: the common grid that the scans are brought onto, if there is one.
        learns_references: whether references are learned from as well, for comparison.
    """

    split: str
    scans: Sequence[Scan]
    references: Mapping[str, Path] = field(default_factory=dict)
    series: str = ""
    grid: Preprocess | None = None
    learns_references: bool = False

    def files(self) -> Iterator[File]:
        """Every file, what it is, and its series."""
        for scan in self.scans:
            yield scan.image, "scan", self.series
            for path in self.maps(scan):
                yield path, "labels", ""

    def pairs(self) -> Iterator[tuple[Scan, Path]]:
        """Every scan with each of its label maps."""
        return ((scan, path) for scan in self.scans for path in self.maps(scan))

    def is_learned(self, scan: Scan, path: Path) -> bool:
        """Whether a label map of a scan is learned from."""
        return self.learns_references or path == scan.labels

    def maps(self, scan: Scan) -> Iterator[Path]:
        """The label maps of a scan."""
        yield from filter(None, (scan.labels, self.references.get(scan.case)))


@dataclass
class Survey:
    """What is known of a data set.

    Attributes:
        parts: its splits.
        classes: the classes that label maps use.
        ignored: values of label maps that are background on purpose.
        facts: file -> what it holds, if it can be trusted.
        problems: what must be corrected before a run.
        faulty: files of which one of the problems is told.
        remarks: (split, what was not as it should be and could be mended).
    """

    parts: Sequence[Part]
    classes: Classes
    ignored: frozenset[int] = frozenset()
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
        return {path: scan.image for part in self.parts for scan, path in part.pairs()}

    def require(self) -> None:
        """Require that all files can be trusted.

        Raises:
            DataError: names all that is wrong.
        """
        require_none(self.problems)

    def read(self, files: Iterable[File], inspector: Inspector, progress: Progress) -> None:
        """Read every file."""
        asked = list(dict.fromkeys(files))
        _side_by_side(lambda item: self._look(inspector, *item), asked, progress)
        self.problems.sort()

    def _look(self, inspector: Inspector, path: Path, kind: Kind, series: str) -> None:
        try:
            self.facts[path] = inspector.facts(path, kind, series)
        except DataError as error:
            self._refuse(path, error)

    def _refuse(self, path: Path, error: DataError) -> None:
        self.problems.append(str(error))
        self.faulty.add(path)

    def compare(self, inspector: Inspector) -> None:
        """Compare files with each other, and label maps with the classes."""
        for part in self.parts:
            self._compare_grids(part, inspector.options.resample_labels)
            self._look_at_scans(part)
        for path, fault in strange_values(self):
            self._refuse(path, fault.of(path))
        self.problems += missing_classes(self)
        self.remarks += remarks_on_classes(self, inspector.single)
        self._find_copies()

    def follow(self, inspector: Inspector, progress: Progress) -> None:
        """Follow the classes of label maps that may lose some of one on the way to training."""
        doubtful = [
            (part, scan, path)
            for part in self.parts
            for scan, path in part.pairs()
            if part.grid and self._may_lose(part.grid, scan, path)
        ]
        if doubtful:
            _side_by_side(lambda item: self._follow(inspector, *item), doubtful, progress)
            self.problems.sort()
            self.remarks.sort()

    def _may_lose(self, grid: Preprocess, scan: Scan, path: Path) -> bool:
        if {scan.image, path} & self.faulty or not {scan.image, path} <= self.facts.keys():
            return False
        image, labels = self.facts[scan.image], self.facts[path]
        elsewhere = difference(labels.grid, image.grid) is not None
        return elsewhere or may_lose(labels, image, self.classes, grid)

    def _follow(self, inspector: Inspector, part: Part, scan: Scan, path: Path) -> None:
        assert part.grid
        try:
            ways = inspector.ways((scan.image, path), part.series, part.grid, self.classes)
        except DataError as error:
            self._refuse(path, error)
            return
        for way in ways:
            loss = way.loss(scan.case, part.grid)
            if loss and part.is_learned(scan, path):
                self._refuse(path, loss.of(path))
            told = [loss.told] if loss else way.remarks(scan.case)
            if not loss or not part.is_learned(scan, path):
                self.remarks += [(part.split, f"{path}: {text}") for text in told]

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
                elif self._covers_part(path, resample, *grids):
                    self.remarks.append((part.split, f"{path}: {extent.told(*grids)}"))
                elif resample and path == scan.labels:
                    self.remarks.append((part.split, f"{path}: {fault.told}; resampled"))
                else:
                    helps = path == scan.labels or self._covers_part(path, True, *grids)
                    self._refuse(path, (fault if helps else fault.advising(REGRID)).of(path))

    def _covers_part(self, path: Path, resample: bool, found: Grid, grid: Grid) -> bool:
        """Whether a label map can be extended to the voxels of its scan without a loss."""
        allowed = resample or ending_of(path.name) == SEGMENTATION
        place = extent.place_of(found, grid) if allowed else None
        if place is None:
            return False
        if extent.lies_within(place, found, grid):
            return True
        try:
            return extent.extended(load_labels(path).labels, place, grid.shape)[1] == 0
        except DataError:  # it can be read with other options only
            return False

    def _note(self, part: Part, path: Path) -> None:
        if path in self.facts:
            self.remarks += [(part.split, f"{path}: {text}") for text in self.facts[path].remarks]

    def _look_at_scans(self, part: Part) -> None:
        """Scans that are label maps, and label maps that are empty."""
        for scan in part.scans:
            if scan.image in self.facts and (few := self.facts[scan.image].labels):
                found = f"holds only the values {_listed(few)}"
                fault = FileFault("voxels", found, "a scan, not a label map")
                self._refuse(scan.image, fault.of(scan.image))
        maps = [path for path in (scan.labels for scan in part.scans) if path in self.facts]
        empty = [path for path in maps if self.facts[path].labels <= {0}]
        self.remarks += [(part.split, f"{path}: labels: the label map is empty") for path in empty]

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


def require_none(problems: Sequence[str]) -> None:
    """Refuse data with problems.

    Raises:
        DataError: names all of them.
    """
    if problems:
        head = f"{counted(len(problems), 'problem')} with the data:"
        raise DataError("\n".join([head, *problems]))


def _side_by_side(
    look: Callable[[ItemT], None], items: Sequence[ItemT], progress: Progress
) -> None:
    with lanes(min(cores(), len(items))) as side_by_side:
        for _ in progress(side_by_side(look, items), total=len(items)):
            pass


def survey(
    parts: Sequence[Part],
    classes: Classes,
    inspector: Inspector,
    progress: Progress = silent_progress,
    *,
    ignored: Iterable[int] = (),
    labels_only: bool = False,
) -> Survey:
    """Read all files of a data set, and compare them with each other.

    Args:
        parts: its splits.
        classes: the classes that label maps use.
        inspector: looks at single files.
        progress: wraps the iteration over files.
        ignored: values of label maps that are background on purpose.
        labels_only: read no scans.
    """
    found = Survey(parts, classes, frozenset(ignored))
    files = (file for part in parts for file in part.files())
    found.read((one for one in files if one[1] == "labels" or not labels_only), inspector, progress)
    found.compare(inspector)
    found.follow(inspector, progress)
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))
