"""Find the scans a recipe means in a data folder, and what a table beside them says."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
    if not root.is_dir():
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
    if len(problems) > 1:
        raise DataError("\n".join(map(str, problems)))
    if problems:
        raise problems[0]
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
        DataError: nothing matches, a label map is missing, a case belongs to no center, or its id
            cannot name files.
    """
    found = _matches(root, images)
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
    for case, path in sorted(found.items()):
        label_path = root / labels.replace(CASE, case) if labels else None
        if label_path is not None and not label_path.is_file():
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
        DataError: names the links and where they lead.
    """
    found = (path for pattern in patterns for path in root.glob(pattern.replace(CASE, "*")))
    links = {link for path in found if (link := _way_out(root, path))}
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


def _matches(root: Path, pattern: str) -> dict[str, Path]:
    """Case -> file; `{case}` is the same at each place of the pattern and holds no slash."""
    first, *others = pattern.split(CASE)
    if not others or Path(pattern).is_absolute():
        raise DataError(
            f"'{pattern}' is not a pattern of files",
            allowed="a path below the data folder with {case} where the case id stands",
        )
    same = "(?P=case)".join(map(re.escape, others))
    expression = re.compile(re.escape(first) + "(?P<case>[^/]+)" + same)
    files = root.glob(pattern.replace(CASE, "*"))
    named = ((expression.fullmatch(path.relative_to(root).as_posix()), path) for path in files)
    wanted = Path.is_file if pattern.endswith(NIFTI) else Path.is_dir
    return {match["case"]: path for match, path in named if match and wanted(path)}


def _nearest_folder(root: Path, pattern: str) -> str:
    """What lies where the pattern leads as far as it leads; the reader sees where it goes wrong."""
    folder = root
    for part in Path(pattern).parent.parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{folder} holds {shown or 'nothing'}"


def read_infos(path: Path) -> dict[str, Info]:
    """Case -> hospital and Koos grade from CrossMoDA's table of source scans.

    Raises:
        DataError: a column is missing.
    """
    columns = ("crossmoda_name", "center", "koos")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"has no column {', '.join(missing)}", where=str(path), allowed=",".join(columns)
            )
        return {row["crossmoda_name"]: Info(row["center"], row["koos"]) for row in reader}


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


def patient_of(case: str, pattern: str | None) -> str:
    """Whom a case shows.

    Args:
        case: case id.
        pattern: of case ids, with `{patient}` and `*`; None where every case is another patient.

    Raises:
        DataError: the pattern does not fit.
    """
    if pattern is None:
        return case
    before, after = (
        ".*".join(map(re.escape, part.split("*"))) for part in pattern.split("{patient}")
    )
    match = re.fullmatch(f"{before}(?P<patient>.+?){after}", case)
    if match is None:
        raise DataError(f"does not fit data.patients = '{pattern}'", where=case)
    return match["patient"]


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
