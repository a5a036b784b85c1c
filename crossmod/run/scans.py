"""The scans of a recipe as steps: from a data folder, or from the embedded cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import crossmod
from crossmod.data.folder import find_scans
from crossmod.data.grids import Preprocess
from crossmod.errors import DataError
from crossmod.files.digests import digest_of, digest_of_files
from crossmod.files.patterns import files_of, matches
from crossmod.recipe.model import Recipe
from crossmod.run.steps import DataFolder, MakePhantom, Prepare, Step

PHANTOM = Path(crossmod.__file__).parent / "phantom"
"""The code that makes the embedded cohort."""


@dataclass(frozen=True)
class Scans:
    """Where the scans of a recipe come from.

    Attributes:
        recipe: says which they are.
        root: the data folder, or None for the embedded cohort.
        digests: file, or folder of DICOM files -> digest; filled when first needed.
    """

    recipe: Recipe
    root: Path | None
    digests: dict[Path, str]

    def prepare(
        self,
        split: str,
        images: str,
        labels: str | None,
        *,
        series: str = "",
        options: Preprocess | None = None,
    ) -> Prepare:
        """The step that brings the scans of a split onto a common grid."""
        return Prepare(
            name=f"prepare-{split}",
            data=self.data([images, labels] if labels else [images]),
            images=images,
            labels=labels,
            centers=self.recipe.data.centers,
            classes=self.recipe.data.class_table,
            options=options or self.recipe.preprocess,
            intake=self.recipe.intake,
            series=series,
            patients=self.recipe.data.patients,
        )

    def data(self, patterns: list[str]) -> Step:
        """The embedded cohort, or the digests of the user's files that match the patterns."""
        if self.root is None:
            size = self.recipe.data.phantom
            if size is None:
                raise DataError(
                    "the recipe needs scans, and none are named",
                    fix="give --data DIR or set CROSSMOD_DATA",
                )
            code = digest_of_files(sorted(PHANTOM.glob("*.py")))
            return MakePhantom(name="phantom", size=size, code=code)
        found: dict[str, str] = {}
        for path in files_of(self.root, patterns):
            if path not in self.digests:
                self.digests[path] = digest_of(path)
            found[path.relative_to(self.root).as_posix()] = self.digests[path]
        return DataFolder(name="data", root=self.root, digests=found)

    def referenced(self, images: Prepare) -> Literal["all", "some", "none"]:
        """How many scans of a split have label maps to score against."""
        labels = self.recipe.evaluate.labels
        if labels is None:
            return "none"
        if self.root is None:
            return "all"
        scans = find_scans(self.root, images.images, None, images.centers)
        references = matches(self.root, labels)
        found = [scan.case in references for scan in scans]
        return "all" if all(found) else "some" if any(found) else "none"
