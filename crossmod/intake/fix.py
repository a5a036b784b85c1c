"""A corrected copy of a data folder, which appears whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.errors import reading
from crossmod.files.copies import copy_file
from crossmod.files.outputs import Inputs, new_folder
from crossmod.intake.nifti.mend import mend
from crossmod.intake.options import Limits
from crossmod.intake.survey import Survey


def write_fixed(survey: Survey, root: Path, out: Path, limits: Limits) -> list[str]:
    """Copy a data folder without what has problems, and correct what can be corrected.

    Args:
        survey: what is known of its scans and label maps.
        root: the data folder.
        out: the folder to make.
        limits: what a file may take.

    Returns:
        What was changed, file by file, and what is not in the copy.

    Raises:
        DataError: the new folder exists or lies in the data folder, or a file changed or vanished.
        MachineError: the disk is full, for instance.
    """
    found = Found.below(root, survey)
    good = sorted(path for path in survey.facts.keys() - survey.faulty if not path.is_dir())
    lines, facts, scans = [], survey.facts, survey.scan_of
    with new_folder(out, Inputs(searched=(root,))) as draft:
        for path in good:
            copy, scan = _place(draft, path.relative_to(root)), facts.get(scans.get(path, path))
            if changes := mend(path, facts[path], copy, scan, limits):
                lines.append(f"{out / path.relative_to(root)}: {'; '.join(changes)}")
            else:
                _copy(path, copy)
        for path in found.others:
            _copy(path, _place(draft, path.relative_to(root)))
    text = f"{len(lines)} of {len(good)} files corrected; files with problems are left out"
    lines.append(f"{out}: {text}; {len(found.others)} other files copied unchanged")
    return lines + [f"{path}: not copied: {why}" for path, why in found.passed_over]


@dataclass
class Found:
    """What a data folder holds besides the image files that were read.

    Attributes:
        others: files to copy as they are, of DICOM series too.
        passed_over: what is not copied, and why.
    """

    others: list[Path] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)

    @classmethod
    def below(cls, root: Path, survey: Survey) -> Found:
        """Look through a folder; series that have problems are left out."""
        found = cls()
        for place, folders, names in os.walk(root, onerror=found._unreadable):
            here = Path(place)
            if here in survey.faulty:
                folders.clear()
                continue
            links = [name for name in folders if (here / name).is_symlink()]
            for name in sorted([*links, *names]):
                if here / name not in survey.facts.keys() | survey.faulty:
                    found._add(here / name)
        return found

    def _add(self, path: Path) -> None:
        if path.is_symlink():
            self.passed_over.append((path, "a link"))
        elif not path.is_file():
            self.passed_over.append((path, "not a regular file"))
        elif not os.access(path, os.R_OK):
            self.passed_over.append((path, "cannot be read"))
        else:
            self.others.append(path)

    def _unreadable(self, error: OSError) -> None:
        self.passed_over.append((Path(error.filename), "cannot be read"))


def _place(draft: Path, below: Path) -> Path:
    copy = draft / below
    copy.parent.mkdir(parents=True, exist_ok=True)
    return copy


def _copy(path: Path, copy: Path) -> None:
    with reading(path):
        path.open("rb").close()
    copy_file(path, copy)
