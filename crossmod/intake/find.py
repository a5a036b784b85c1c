"""Which scans a user means by paths on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.data.cases import faults_of_cases
from crossmod.data.folder import ENDINGS, ending_of, stem_of
from crossmod.errors import DataError, counted, listed
from crossmod.files.outputs import Outputs
from crossmod.files.patterns import nfc
from crossmod.intake.dicom.files import promises_dicom
from crossmod.intake.guess import has_label_name, is_label_map

PREDICT = "crossmod predict"
"""How a ledger names the command whose label maps are not scans."""

BIDS = "dataset_description.json"
"""The file that makes a folder a BIDS data set."""

NOT_RAW = ("derivatives", "sourcedata", "code")
"""Folders of a BIDS data set that hold no raw scans."""

MAX_NAMED = 5
"""Names that a message lists."""

MAX_READ = 5
"""Files of one folder that are read to tell scans from label maps, whatever they are called."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ScanFile:
    """One scan and what it is called.

    Attributes:
        case: its name, unique among the scans of a command.
        path: an image file, or a folder with a DICOM series.
        series: which series of the folder; may be empty where there is only one.
        found: whether it was found in a folder, not named itself.
    """

    case: str
    path: Path
    series: str = ""
    found: bool = False

    @property
    def is_dicom(self) -> bool:
        """Whether it is a folder of DICOM files."""
        return self.path.is_dir()


def find_scan_files(
    paths: Sequence[Path], ending: str = "", series: str = "", tell: Tell = lambda text: None
) -> list[ScanFile]:
    """The scans behind paths, in the order given.

    A folder that holds image files gives each of them. One that holds none, but folders with one
    scan each, such as patient folders or a BIDS data set, gives cases named by these folders. Label
    maps beside scans are skipped, those that `crossmod predict` wrote among them.

    Args:
        paths: image files, folders of them, or folders of DICOM files.
        ending: what names of scans end with, with or without ``.nii.gz``; it is not part of the
            case, and files of a folder that end otherwise are skipped.
        series: which series of folders of DICOM files.
        tell: takes a line about what is skipped.

    Raises:
        DataError: names every path that is not a scan, every case that occurs twice, and every one
            that cannot name files.
    """
    problems: list[str] = []
    found: dict[str, Path] = {}
    for path in paths:
        try:
            scans = list(Search(ending, tell).scans(path))
        except DataError as error:
            problems.append(str(error))
            continue
        for case, file in scans:
            if case in found:
                text = f"{file}: the name '{case}' is already used by {found[case]}"
                problems.append(f"{text}; name the folder around both")
            found.setdefault(case, file)
    problems += faults_of_cases(found)
    if problems:
        raise DataError("\n".join(problems))
    return [
        ScanFile(case, path, series if path.is_dir() else "", path not in paths)
        for case, path in found.items()
    ]


def find_arrived(
    entry: Path, ending: str = "", series: str = "", tell: Tell = lambda text: None
) -> list[ScanFile]:
    """The scans of one entry of a folder into which scans come one by one.

    An image file is a scan. A folder is a DICOM series, or that of a patient; it names the case.

    Args:
        entry: what has come.
        ending: as in `find_scan_files`; files that end otherwise are passed over.
        series: which series of folders of DICOM files.
        tell: takes a line about what is skipped.

    Raises:
        DataError: it holds several scans of which none is chosen, or the case cannot name files.
    """
    found = Search(ending, tell).arrived(entry)
    if problems := faults_of_cases(case for case, _ in found):
        raise DataError("\n".join(problems), where=str(entry))
    return [ScanFile(case, path, series if path.is_dir() else "", True) for case, path in found]


@dataclass(frozen=True)
class Search:
    """A search for scans.

    Attributes:
        ending: what their names end with.
        tell: takes a line about what is skipped.
    """

    ending: str
    tell: Tell

    def scans(self, path: Path) -> list[tuple[str, Path]]:
        """Case and file of every scan behind a path.

        Raises:
            DataError: it holds none, or it cannot be told which.
        """
        if path.is_file():
            return [(self._case(path), path)]
        if not path.is_dir():
            raise DataError("does not exist", where=str(path))
        files = [one for one in sorted(path.iterdir()) if one.is_file() and one.name[0] != "."]
        images = _not_written(path, [one for one in files if ending_of(one.name)])
        if images:
            return [(self._case(one), one) for one in self._kept(path, images)]
        if not any(map(promises_dicom, files)) and (below := _below(path, self.tell)):
            return self._patients(path, below)
        if any(map(promises_dicom, _walk(path))):
            name = path.name if path.name not in ("", "..") else path.resolve().name
            return [(nfc(name), path)]
        raise _nothing(path)

    def arrived(self, entry: Path) -> list[tuple[str, Path]]:
        """Case and file of every scan of one entry of a folder.

        Raises:
            DataError: it cannot be told which.
        """
        if entry.is_file():
            wanted = ending_of(entry.name) and self._fits(entry)
            return [(self._case(entry), entry)] if wanted else []
        if entry.name in NOT_RAW and (entry.parent / BIDS).is_file():
            return []
        images = [one for one in _below(entry, self.tell) if self._fits(one)]
        if images:
            return self._patients(entry.parent, images)
        return self.scans(entry) if any(map(promises_dicom, _walk(entry))) else []

    def _case(self, path: Path) -> str:
        if not ending_of(path.name):
            raise DataError(
                "is not named like an image file",
                where=str(path),
                allowed=", ".join(ENDINGS),
                fix="for a DICOM series, name its folder",
            )
        core = stem_of(self.ending)
        if not self._fits(path) or stem_of(path.name) == core:
            raise DataError(f"does not end with '{self.ending}' after a name", where=str(path))
        return nfc(stem_of(path.name).removesuffix(core))

    def _fits(self, path: Path) -> bool:
        """Whether a name ends as asked; an ending may say the format, too."""
        wanted = ending_of(self.ending)
        right = not wanted or ending_of(path.name) == wanted
        return right and nfc(stem_of(path.name)).endswith(nfc(stem_of(self.ending)))

    def _as_asked(self, folder: Path, files: Sequence[Path]) -> list[Path]:
        """The files below a folder that end as asked.

        Raises:
            DataError: there are none.
        """
        named = [one for one in files if self._fits(one)]
        if not named:
            raise DataError(
                f"has no scan whose name ends with '{self.ending}'",
                where=str(folder),
                allowed=listed([str(one.relative_to(folder)) for one in files]),
            )
        return named

    def _kept(self, folder: Path, files: Sequence[Path]) -> list[Path]:
        """The files that end as asked, without label maps.

        Raises:
            DataError: there are none.
        """
        named = self._as_asked(folder, files)
        maps = [one for one in named if has_label_name(one) and is_label_map(one, by_name=True)]
        if len(maps) == len(named):
            raise DataError("holds only label maps", where=str(folder))
        self._skip(folder, maps)
        return [one for one in named if one not in maps]

    def _skip(self, folder: Path, maps: Sequence[Path]) -> None:
        if maps:
            names = listed([str(one.relative_to(folder)) for one in maps])
            self.tell(f"{folder}: skipped {counted(len(maps), 'label map')}: {names}")

    def _patients(self, root: Path, files: Sequence[Path]) -> list[tuple[str, Path]]:
        """One scan of each folder below a folder; the folders name the cases.

        Raises:
            DataError: a folder holds several.
        """
        named = self._as_asked(root, files)
        groups = {one.parent: [two for two in named if two.parent == one.parent] for one in named}
        maps = [one for group in groups.values() for one in _maps(group)]
        self._skip(root, maps)
        left = {place: [one for one in group if one not in maps] for place, group in groups.items()}
        several = [
            f"{place}: holds {len(group)} scans: {listed([one.name for one in group])}"
            for place, group in left.items()
            if len(group) > 1
        ]
        if several:
            fix = "choose one scan of each folder with --ending, or name the folder of the scans"
            raise DataError("\n".join(several[:MAX_NAMED]), fix=fix)
        scans = [group[0] for group in left.values() if group]
        if not scans:
            raise DataError("holds only label maps", where=str(root))
        return list(zip(_folder_names(root, scans), scans, strict=True))


def _maps(group: Sequence[Path]) -> Iterator[Path]:
    """The label maps among the images of a patient's folder."""
    for one in group:
        by_name = has_label_name(one)
        looked_into = by_name or 1 < len(group) <= MAX_READ
        if looked_into and is_label_map(one, by_name=by_name):
            yield one


def _folder_names(root: Path, scans: Sequence[Path]) -> list[str]:
    """As many of the folders around each scan as tell all apart."""
    places = [one.relative_to(root).parts[:-1] for one in scans]
    for depth in range(1, max(map(len, places)) + 1):
        names = [nfc("_".join(parts[:depth])) for parts in places]
        if len(set(names)) == len(names):
            break
    return names


def _not_written(folder: Path, images: list[Path]) -> list[Path]:
    """The images that `crossmod predict` did not write.

    Raises:
        DataError: it wrote all of them.
    """
    written = Outputs(folder, PREDICT).written() if images else set()
    left = [one for one in images if one.name not in written]
    if images and not left:
        raise DataError(f"holds only label maps that {PREDICT} wrote", where=str(folder))
    return left


def _below(root: Path, tell: Tell) -> list[Path]:
    """The image files in the folders of a folder, without those that are not raw scans."""
    images = [one for one in _walk(root) if ending_of(one.name)]
    skipped = [
        one
        for one in images
        if (root / BIDS).is_file() and one.relative_to(root).parts[0] in NOT_RAW
    ]
    if skipped:
        tell(f"{root}: skipped {len(skipped)} images in {', '.join(NOT_RAW)}")
    places = {one.parent: Outputs(one.parent, PREDICT).written() for one in images}
    return [one for one in images if one not in skipped and one.name not in places[one.parent]]


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder, sorted; links to folders are not followed, nothing hidden is."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(place, name) for name in sorted(names) if name[0] != ".")


def _nothing(folder: Path) -> DataError:
    names = [str(one.relative_to(folder)) for one in _walk(folder)]
    return DataError(
        f"holds no scan, but {listed(names)}" if names else "holds no files",
        where=str(folder),
        allowed=f"files that end with {', '.join(ENDINGS)}; DICOM files",
        fix="name the folder of the scans themselves",
    )
