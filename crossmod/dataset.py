"""Find the scans a recipe means in a data folder, and what a table beside them says."""

from __future__ import annotations

import codecs
import csv
import errno
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

from crossmod.cases import faults_of_cases, shown
from crossmod.errors import DataError

CASE = "{case}"
"""What stands for the case id in a pattern."""

NIFTI = (".nii.gz", ".nii")
"""What names of NIfTI files end with; other patterns are of folders of DICOM files."""

SHOWN_LINKS = 20
"""Links to the outside that a message lists."""

INFOS = "infos_source_training.csv"
"""CrossMoDA's table of source scans; it lies beside their folder."""

INFO_CENTERS = {"London": "ldn", "Tilburg": "etz"}
"""Hospitals in that table -> centers in CrossMoDA's case names."""


@dataclass(frozen=True)
class Scan:
    """One scan as it was shipped.

    Attributes:
        case: what stands at `{case}` in the pattern.
        center: from the case id.
        image: image file.
        labels: label map file, or None.
    """

    case: str
    center: str
    image: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Info:
    """What CrossMoDA's table says of one source scan.

    Attributes:
        center: the hospital, "London" or "Tilburg".
        koos: Koos grade of the tumor, 1 to 4, or "post-operative-london".
    """

    center: str
    koos: str


@dataclass(frozen=True)
class Inventory:
    """What a data folder holds for a recipe.

    Attributes:
        splits: split -> its scans.
        infos: case -> what the table says of a source scan; empty where there is no table.
    """

    splits: Mapping[str, Sequence[Scan]]
    infos: Mapping[str, Info]

    def lines(self) -> list[str]:
        """For each split, how many scans of which center; for the source, the Koos grades."""
        lines = []
        for split, scans in self.splits.items():
            centers = Counter(scan.center for scan in scans)
            text = f"{split:<10} " + ", ".join(f"{n} {center}" for center, n in centers.items())
            koos = [self.infos[scan.case].koos for scan in scans if scan.case in self.infos]
            if koos and split == "source":
                grades = sorted(Counter(grade.removesuffix("-london") for grade in koos).items())
                text += "; Koos " + ", ".join(f"{grade}: {n}" for grade, n in grades)
            lines.append(text)
        return lines


def take_stock(
    root: Path, patterns: Mapping[str, tuple[str, str | None]], centers: Mapping[str, str]
) -> Inventory:
    """Find the scans of every split and hold them against the table beside the source scans.

    Args:
        root: the data folder.
        patterns: split -> patterns of its images and label maps.
        centers: center -> pattern of case ids.

    Raises:
        DataError: names what is wrong in any of the splits.
    """
    if not _is_folder(root):
        raise DataError("is not a folder", where=str(root))
    splits: dict[str, list[Scan]] = {}
    infos: dict[str, Info] = {}
    problems = []
    for split, (images, labels) in patterns.items():
        try:
            splits[split] = find_scans(root, images, labels, centers)
            table = (root / images).parent.parent / INFOS
            if split == "source" and table.is_file():
                infos = read_infos(table)
                _compare_centers(splits[split], infos, table)
        except DataError as error:
            problems.append(error)
    if problems:
        raise problems[0] if len(problems) == 1 else DataError("\n".join(map(str, problems)))
    return Inventory(splits, infos)


def reference_of(root: Path, labels: str, case: str) -> Path:
    """Where the label map lies that a case is scored against, whether or not it exists."""
    return root / labels.replace(CASE, case)


def find_scans(
    root: Path, images: str, labels: str | None, centers: Mapping[str, str]
) -> list[Scan]:
    """The scans of one pattern, sorted by case.

    Args:
        root: the data folder.
        images: pattern of the images, with `{case}`; where it stands twice, both are the same.
        labels: pattern of the label maps, or None for unlabeled scans.
        centers: center -> pattern of case ids.

    Raises:
        DataError: nothing matches, a label map is missing, a case belongs to no center, its id
            cannot name files, or a folder cannot be read.
    """
    found = {case: path for case, path in matches(root, images).items() if _is_scan(path, images)}
    if labels:
        maps = {root / labels.replace(CASE, case) for case in found}
        found = {case: path for case, path in found.items() if path not in maps}
    if not found:
        raise DataError(
            f"no scan matches; {_nearest_folder(root, images)}",
            where=str(root / images),
            fix="check --data and [data] in the recipe",
        )
    scans, problems = [], faults_of_cases(sorted(found))
    problems += [f"{shown(case)}: + is kept for augmented copies" for case in found if "+" in case]
    there = {path for path in files_of(root, [labels] if labels else []) if not _is_folder(path)}
    for case, path in sorted(found.items()):
        label_path = root / labels.replace(CASE, case) if labels else None
        if label_path is not None and label_path not in there:
            problems.append(f"{case}: no label map at {label_path}")
        center = next((name for name, ids in centers.items() if fnmatchcase(case, ids)), "")
        if not center:
            problems.append(f"{case}: belongs to none of the centers {dict(centers)}")
        scans.append(Scan(case, center, path, label_path))
    if problems:
        raise DataError("\n".join(problems), where=str(root))
    return scans


def refuse_links(root: Path, patterns: Iterable[str]) -> None:
    """Refuse files of a data folder that are links to somewhere else.

    Raises:
        DataError: names the links and where they lead, or folders that cannot be read.
    """
    links = {link for path in files_of(root, patterns) if (link := _way_out(root, path))}
    if links:
        lines = [f"{link} leads to {_target(link)}" for link in sorted(links)]
        more = [f"and {len(lines) - SHOWN_LINKS} more"] if len(lines) > SHOWN_LINKS else []
        raise DataError(
            "\n".join(["links lead out of the data folder", *lines[:SHOWN_LINKS], *more]),
            where=str(root),
            fix="if you trust them, --allow-outside",
        )


def _way_out(root: Path, path: Path) -> Path | None:
    """The first part of a path that is not in the folder ``root`` once links are followed."""
    inside, below = root.resolve(), path.relative_to(root)
    parts = (root / part for part in (*reversed(below.parents), below))
    return next((part for part in parts if not _target(part).is_relative_to(inside)), None)


def _target(path: Path) -> Path:
    """Where a path leads; links in a circle lead nowhere."""
    try:
        return path.resolve()
    except RuntimeError:
        return Path(path.readlink())


def files_of(root: Path, patterns: Iterable[str]) -> list[Path]:
    """What lies where patterns lead, pattern by pattern.

    Raises:
        DataError: names every folder that cannot be read.
    """
    found, problems = list[Path](), list[str]()
    for pattern in patterns:
        try:
            found += matches(root, pattern).values()
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return found


def matches(root: Path, pattern: str) -> dict[str, Path]:
    """Case -> what lies where the pattern leads, sorted; nothing but `{case}` is special in it.

    `{case}` is the same at each place and holds no slash. Hidden files are none of the user's:
    systems put them beside others, as `._name`.

    Raises:
        DataError: it is no pattern, or folders cannot be read.
    """
    if CASE not in pattern or Path(pattern).is_absolute():
        raise DataError(
            f"'{pattern}' is not a pattern of files",
            allowed="a path below the data folder with {case} where the case id stands",
        )
    found, problems = [root], list[str]()
    for part in pattern.split("/"):
        found = [path for folder in found for path in _below(folder, part, problems)]
    if problems:
        raise DataError("\n".join(problems))
    whole = _expression(pattern)
    named = ((whole.fullmatch(path.relative_to(root).as_posix()), path) for path in sorted(found))
    return {match["case"]: path for match, path in named if match}


def _expression(pattern: str) -> re.Pattern[str]:
    first, *others = map(re.escape, pattern.split(CASE))
    return re.compile(first + "(?P<case>[^/]+)" * bool(others) + "(?P=case)".join(others))


def _below(folder: Path, part: str, problems: list[str]) -> list[Path]:
    """What is in a folder and fits one part of a pattern; what cannot be read is noted."""
    try:
        if CASE not in part:
            (folder / part).lstat()
            return [folder / part]
        expression, hidden = _expression(part), part.startswith(".")
        named = [path for path in folder.iterdir() if hidden or not path.name.startswith(".")]
        return [path for path in named if expression.fullmatch(path.name)]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            problems.append(f"{error.filename}: cannot be read: {error.strerror}")
        return []


def _is_scan(path: Path, pattern: str) -> bool:
    """Whether it is the kind of thing a pattern is of; reading says where a broken link leads."""
    return _is_folder(path) != pattern.endswith(NIFTI) or not path.exists()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _nearest_folder(root: Path, pattern: str) -> str:
    """What lies where the pattern leads as far as it leads; the reader sees where it goes wrong."""
    folder = root
    for part in Path(pattern).parent.parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    try:
        names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{folder} holds {shown or 'nothing'}"


def read_infos(path: Path) -> dict[str, Info]:
    """Case -> hospital and Koos grade from CrossMoDA's table of source scans.

    Raises:
        DataError: names the line that is no row of such a table.
    """
    columns = ("crossmoda_name", "center", "koos")
    infos = {}
    reader = csv.DictReader(StringIO(_decoded(path), newline=""))
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"has no column {', '.join(missing)}", where=str(path), allowed=",".join(columns)
            )
        for row in reader:
            case, *known = [row[name] for name in columns]
            if None in (case, *known):
                raise DataError("is too short a row", where=f"{path}:{reader.line_num}")
            infos[case] = Info(*known)
    except csv.Error as error:
        raise DataError(f"is not CSV: {error}", where=f"{path}:{reader.line_num + 1}") from error
    return infos


def _decoded(path: Path) -> str:
    raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise DataError(f"is not UTF-8: byte 0x{byte:02x}", where=f"{path}:{line}") from error


def _compare_centers(scans: Sequence[Scan], infos: Mapping[str, Info], table: Path) -> None:
    problems = []
    for scan in scans:
        if scan.case not in infos or scan.center not in INFO_CENTERS.values():
            continue
        hospital = infos[scan.case].center
        if INFO_CENTERS.get(hospital, scan.center) != scan.center:
            problems.append(f"{scan.case}: {hospital} in the table, {scan.center} by its name")
    if problems:
        raise DataError(
            "\n".join(["contradicts case names", *problems]),
            where=str(table),
            fix="correct the table, or data.centers in the recipe",
        )


def digest_of(path: Path) -> str:
    """The sha256 of a file, or of the digests of the files of a folder, whatever they are called.

    In a folder, links and hidden files do not count: whoever reads it passes them over.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.name[0] != "." and not file.is_symlink())
        inside = sorted(digest_of(file) for file in files if file.is_file())
        return hashlib.sha256("".join(inside).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
