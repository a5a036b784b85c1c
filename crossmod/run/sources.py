"""Where the scans of a plan come from: each folder is listed once, each file digested once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import crossmod
from crossmod.data.folder import find_scans
from crossmod.errors import DataError
from crossmod.files.digests import digest_of_files
from crossmod.files.patterns import files_of, matches
from crossmod.intake.formats.read import digest_of_image
from crossmod.recipe.model import EmbeddedCohort
from crossmod.run.steps import DataFolder, MakePhantom, Prepare, ScanSource

PHANTOM = Path(crossmod.__file__).parent / "phantom"
"""The code that makes the embedded cohort."""

Share = Literal["all", "some", "none"]


@dataclass
class Sources:
    """The data folder of a plan, or the embedded cohort; many steps ask for the same scans.

    Attributes:
        root: the data folder; None for the embedded cohort.
        phantom: the size of that.
        digests: of files and folders of DICOM files; plans of several variants share them.
    """

    root: Path | None
    phantom: EmbeddedCohort | None
    digests: dict[Path, str]
    _known: dict[tuple[Any, ...], ScanSource] = field(default_factory=dict, init=False)
    _shares: dict[tuple[Any, ...], Share] = field(default_factory=dict, init=False)

    def of(self, *patterns: str | None, cases: tuple[str, ...] | None = None) -> ScanSource:
        """The embedded cohort, or the digests of the user's files that match; of some cases.

        Raises:
            DataError: the recipe needs a data folder and has none, or it cannot be read.
        """
        asked = (patterns, cases)
        if asked not in self._known:
            self._known[asked] = self._found(patterns, cases)
        return self._known[asked]

    def _found(self, patterns: tuple[str | None, ...], cases: tuple[str, ...] | None) -> ScanSource:
        if self.root is None:
            if self.phantom is None:
                raise DataError(
                    "the recipe needs scans, but no data folder is given",
                    fix="give --data DIR or set CROSSMOD_DATA",
                )
            code = digest_of_files(sorted(PHANTOM.glob("*.py")))
            return MakePhantom(name="phantom", size=self.phantom, code=code)
        found: dict[str, str] = {}
        chosen = None if cases is None else frozenset(cases)
        for path in files_of(self.root, filter(None, patterns), chosen):
            if path not in self.digests:
                self.digests[path] = digest_of_image(path)
            found[path.relative_to(self.root).as_posix()] = self.digests[path]
        return DataFolder(name="data", root=self.root, digests=found)

    def referenced(self, images: Prepare, labels: str | None) -> Share:
        """How many scans of a split have label maps to score against.

        Args:
            images: the split.
            labels: the pattern of the label maps.
        """
        if labels is None:
            return "none"
        if self.root is None:
            return "all"
        asked = (images.images, images.cases, labels)
        if asked not in self._shares:
            scans = find_scans(self.root, images.images, None, images.centers, images.choice)
            references = matches(self.root, labels)
            found = [scan.case in references for scan in scans]
            self._shares[asked] = "all" if all(found) else "some" if any(found) else "none"
        return self._shares[asked]
