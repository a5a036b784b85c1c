"""Find the scans a recipe means in a data folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from crossmod.errors import DataError


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


def find_scans(
    root: Path, images: str, labels: str | None, centers: Mapping[str, str]
) -> list[Scan]:
    """The scans of one pattern, sorted by case.

    Args:
        root: the data folder.
        images: pattern of the images, with `{case}`.
        labels: pattern of the label maps, or None for unlabeled scans.
        centers: center -> pattern of case ids.

    Raises:
        DataError: nothing matches, a label map is missing, or a case belongs to no center.
    """
    found = {case: path for path in root.glob(images.format(case="*"))
             if (case := _case_id(root, path, images))}  # fmt: skip
    if not found:
        raise DataError(
            "no scan matches", where=str(root / images), fix="check --data and [data] in the recipe"
        )
    scans, problems = [], []
    for case, path in sorted(found.items()):
        label_path = root / labels.format(case=case) if labels else None
        if label_path is not None and not label_path.is_file():
            problems.append(f"{case}: no label map at {label_path}")
        center = next((name for name, ids in centers.items() if fnmatch(case, ids)), "")
        if not center:
            problems.append(f"{case}: belongs to none of the centers {dict(centers)}")
        scans.append(Scan(case, center, path, label_path))
    if problems:
        raise DataError("\n".join(problems), where=str(root))
    return scans


def _case_id(root: Path, path: Path, pattern: str) -> str:
    before, after = pattern.split("{case}")
    expression = re.escape(before) + r"([^/]+)" + re.escape(after)
    match = re.fullmatch(expression, path.relative_to(root).as_posix())
    return match[1] if match else ""


def digests(root: Path, files: list[Path]) -> dict[str, str]:
    """Name below the data folder -> sha256 of the content."""
    result = {}
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        result[path.relative_to(root).as_posix()] = digest
    return result
