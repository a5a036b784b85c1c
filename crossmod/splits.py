"""The scans of a recipe as steps: from a data folder, or from the embedded cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossmod import plugins
from crossmod.dataset import CASE, Inventory, digests, find_scans, reference_of, take_stock
from crossmod.errors import DataError
from crossmod.preprocess import Preprocess
from crossmod.recipe_model import Data, Recipe
from crossmod.steps import DataFolder, MakePhantom, Prepare, Step


@dataclass(frozen=True)
class Scans:
    """Where the scans of a recipe come from.

    Attributes:
        recipe: says which they are.
        root: the data folder, or None for the embedded cohort.
        digests: pattern -> file -> digest; filled when first needed.
    """

    recipe: Recipe
    root: Path | None
    digests: dict[str, dict[str, str]]

    def prepare(
        self, split: str, images: str, labels: str | None, options: Preprocess | None = None
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
            package = Path(plugins.__file__).parent
            code = plugins.digest_of_files(sorted((package / "phantom").glob("*.py")))
            return MakePhantom(name="phantom", size=size, code=code)
        found: dict[str, str] = {}
        for pattern in patterns:
            if pattern not in self.digests:
                files = sorted(self.root.glob(pattern.replace(CASE, "*")))
                self.digests[pattern] = digests(self.root, files)
            found |= self.digests[pattern]
        return DataFolder(name="data", root=self.root, digests=found)

    def referenced(self, images: Prepare) -> Literal["all", "some", "none"]:
        """How many scans of a split have label maps to score against."""
        labels = self.recipe.evaluate.labels
        if labels is None:
            return "none"
        if self.root is None:
            return "all"
        scans = find_scans(self.root, images.images, None, images.centers)
        found = [reference_of(self.root, labels, scan.case).is_file() for scan in scans]
        return "all" if all(found) else "some" if any(found) else "none"


def check_data(data: Data, root: Path) -> Inventory:
    """Find the scans of every split, so that a wrong folder is said before anything runs.

    Raises:
        DataError: a split has no scan, a labeled scan has no label map, or a table beside the
            source scans contradicts their names.
    """
    patterns: dict[str, tuple[str, str | None]] = {
        "source": (data.source.images, data.source.labels),
        "target": (data.target.images, None),
    }
    if data.validation is not None:
        patterns["validation"] = (data.validation.images, None)
    return take_stock(root, patterns, data.centers)
