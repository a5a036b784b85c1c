"""Find the scans a recipe means in a data folder, and what a table beside them says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from crossmod.data.cases import faults_of_cases, shown
from crossmod.data.choice import ALL, Choice
from crossmod.data.crossmoda import Info, grades, infos_beside
from crossmod.errors import DataError, listed
from crossmod.files.patterns import CASE, is_folder, matches, nfc

NIFTI = (".nii.gz", ".nii")
"""What names of NIfTI files end with."""

ENDINGS = (
    *NIFTI, ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh.gz", ".mgh", ".mgz",
)  # fmt: skip
"""What names of image files end with, in letters of any case; other patterns are of folders of
DICOM files."""


SEGMENTATION = ".seg.nrrd"
"""The ending that 3D Slicer gives to segmentations and to nothing else; they may cover a part of
the voxels of their scan."""


def ending_of(name: str) -> str:
    """What the name of an image file ends with, in small letters; empty for other names.

    Example:
        >>> ending_of("case_1.NII.GZ"), ending_of("case_1.seg.nrrd"), ending_of("notes.txt")
        ('.nii.gz', '.seg.nrrd', '')
    """
    lowered = name.lower()
    return next((one for one in ENDINGS if lowered.endswith(one)), "")


def stem_of(name: str) -> str:
    """The name of an image file without its ending; other names as they are.

    Example:
        >>> stem_of("case_1.NII.GZ"), stem_of("series.1")
        ('case_1', 'series.1')
    """
    return name[: len(name) - len(ending_of(name))]


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
class Inventory:
    """What a data folder holds for a recipe.

    Attributes:
        splits: split -> its scans.
        infos: case -> what the table says of a source scan; empty where there is no table.
    """

    splits: Mapping[str, Sequence[Scan]]
    infos: Mapping[str, Info]

    def lines(self) -> list[str]:
        """For each split, how many scans of which center; for the source, what the table says."""
        lines = []
        for split, scans in self.splits.items():
            centers = Counter(scan.center for scan in scans)
            text = f"{split:<10} " + ", ".join(f"{n} {center}" for center, n in centers.items())
            told = grades(self.infos[scan.case] for scan in scans if scan.case in self.infos)
            lines.append(f"{text}; {told}" if told and split == "source" else text)
        return lines


def take_stock(
    root: Path,
    patterns: Mapping[str, tuple[str, str | None]],
    centers: Mapping[str, str],
    choices: Mapping[str, Choice] = MappingProxyType({}),
) -> Inventory:
    """Find the scans of every split and compare them with the table beside the source scans.

    Args:
        root: the data folder.
        patterns: split -> patterns of its images and label maps.
        centers: center -> pattern of case ids.
        choices: split -> which of its cases take part, where not all do.

    Raises:
        DataError: names what is wrong in any of the splits.
    """
    splits: dict[str, list[Scan]] = {}
    infos: dict[str, Info] = {}
    problems = []
    for split, (images, labels) in patterns.items():
        try:
            splits[split] = find_scans(root, images, labels, centers, choices.get(split, ALL))
            if split == "source":
                infos = infos_beside(root, images, {s.case: s.center for s in splits[split]})
        except DataError as error:
            problems.append(error)
    if problems:
        raise problems[0] if len(problems) == 1 else DataError("\n".join(map(str, problems)))
    return Inventory(splits, infos)


def find_scans(
    root: Path,
    images: str,
    labels: str | None,
    centers: Mapping[str, str],
    choice: Choice = ALL,
) -> list[Scan]:
    """The scans of one pattern, sorted by case.

    Args:
        root: the data folder.
        images: pattern of the images, with `{case}`; where it stands twice, both are the same.
        labels: pattern of the label maps, or None for unlabeled scans.
        centers: center -> pattern of case ids.
        choice: which cases take part.

    Raises:
        DataError: nothing matches, a listed case is not there, a label map is missing, a case
            belongs to no center, its id cannot name files, or a folder cannot be read.
    """
    found = {case: path for case, path in matches(root, images).items() if _is_scan(path, images)}
    there = matches(root, labels) if labels else {}
    maps = {case: path for case, path in there.items() if not is_folder(path)}
    taken = {there[case] for case in found if case in there}
    found = {case: path for case, path in found.items() if path not in taken}
    if not found:
        other = f"; files end with one of {', '.join(ENDINGS)}" * (not ending_of(images))
        raise DataError(
            f"no scan matches; {nearest_folder(root, images)}",
            where=str(root / images),
            fix=f"check --data and [data] in the recipe{other}",
        )
    kept, problems = choice.of(root, found)
    found = {case: path for case, path in found.items() if case in kept}
    scans, problems = [], [*problems, *faults_of_cases(sorted(found))]
    problems += [
        f"{shown(case)}: + is reserved for augmented copies" for case in found if "+" in case
    ]
    for case, path in sorted(found.items()):
        if labels and case not in maps:
            problems.append(f"{case}: no label map at {root / labels.replace(CASE, case)}")
        center = next((name for name, ids in centers.items() if fnmatchcase(case, nfc(ids))), "")
        if not center:
            problems.append(f"{case}: belongs to none of the centers {dict(centers)}")
        scans.append(Scan(case, center, path, maps.get(case)))
    if problems:
        raise DataError("\n".join(problems), where=str(root))
    return scans


def _is_scan(path: Path, pattern: str) -> bool:
    """Whether it is the kind of thing a pattern is of; reading says where a broken link leads."""
    return is_folder(path) != bool(ending_of(pattern)) or not path.exists()


def nearest_folder(root: Path, pattern: str) -> str:
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
    return f"{folder} holds {listed(names) or 'nothing'}"
