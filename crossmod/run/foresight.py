"""What a run would learn only when a step begins: options that do not fit the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property

import numpy as np

from crossmod.data.folder import Inventory, Scan
from crossmod.data.grids import Grid, common_shape
from crossmod.errors import CrossmodError, PluginError
from crossmod.files.patterns import is_folder
from crossmod.intake import Survey, load_grid
from crossmod.intake.facts import Facts
from crossmod.options import Location, NameIn, with_names
from crossmod.recipe.load import Checked
from crossmod.recipe.model import Recipe
from crossmod.stages.base import DataFacts, ScanFacts
from crossmod.stages.entry_points import contained, explained
from crossmod.stages.find import StageUse

WARNING = "warning: "
"""What a line of `Stage.check_data` starts with that does not stop a run."""


@dataclass
class Foresight:
    """What a recipe asks of the data and the data do not have.

    Attributes:
        problems: what stops a run.
        warnings: what does not.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, checked: Checked, location: Location, line: str) -> None:
        """Add a line about a key; the key itself may stand at its beginning."""
        lines = self.warnings if line.startswith(WARNING) else self.problems
        text = line.removeprefix(WARNING)
        key, colon, rest = text.partition(": ")
        if colon and (*location, key) in checked.document.origins:
            location, text = (*location, key), rest
        lines.append(checked.document.problem(location, text))


@dataclass(frozen=True)
class Looked:
    """The scans of a recipe, for all variants that read the same files in the same way.

    Attributes:
        recipe: one of them.
        inventory: the scans of each split.
        survey: what the files hold; scans that could not be read are left out.
    """

    recipe: Recipe
    inventory: Inventory
    survey: Survey

    @cached_property
    def scans(self) -> dict[str, tuple[ScanFacts, ...]]:
        """What stages are told of the scans of each split."""
        return {split: tuple(self._facts(split)) for split in self.inventory.splits}

    def _facts(self, split: str) -> Iterator[ScanFacts]:
        """The scans of a split that can be read."""
        options = self.recipe.preprocess.of(split)
        classes = self.recipe.data.class_table.values
        for scan in self.inventory.splits[split]:
            if grid := self._grid(scan):
                labels = self.survey.facts.get(scan.labels) if scan.labels else None
                shape = tuple(common_shape(grid, options).astype(int).tolist())
                volumes = _volumes(labels, classes) if labels else {}
                yield ScanFacts(scan.case, scan.center, shape, options.spacing_mm, volumes)

    def _grid(self, scan: Scan) -> Grid | None:
        """The grid of a scan; None of one that cannot be read, or takes long to."""
        if scan.image in self.survey.facts:
            return self.survey.facts[scan.image].grid
        if is_folder(scan.image):
            return None
        with suppress(CrossmodError):  # which reading it says
            return load_grid(scan.image, self.recipe.intake)
        return None


def _volumes(labels: Facts, classes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Class -> mm3 in a label map."""
    voxel = float(np.prod(labels.grid.spacing_mm))
    return {name: voxel * labels.voxels_of(values) for name, values in classes.items()}


def foresee(checked: Checked, looked: Looked) -> Foresight:
    """Compare the options of all stages with the scans they will get.

    Args:
        checked: the recipe.
        looked: its scans.
    """
    found = Foresight()
    _check_centers(checked, looked.inventory, found)
    scans = looked.scans
    for (kind, name), use in checked.uses.items():
        location = (kind, name) if name else (kind,)
        given = _given(checked, kind, name, scans)
        _check_named_centers(checked, location, use, given, found)
        if given.target and given.labeled:
            for text in _lines(use, given):
                found.note(checked, location, text)
    return found


def _check_centers(checked: Checked, inventory: Inventory, found: Foresight) -> None:
    """Centers without scans, and stages that have nothing to learn from."""
    centers = {split: {scan.center for scan in scans} for split, scans in inventory.splits.items()}
    for name, pattern in checked.recipe.data.centers.items():
        if not any(name in used for used in centers.values()):
            text = f"{WARNING}no scan is of center '{name}': no case id matches '{pattern}'"
            found.note(checked, ("data", "centers", name), text)
    both = sorted(centers["source"] & centers["target"])
    for kind in ("translate", "augment"):
        for name, table in getattr(checked.recipe, kind).items():
            center = table.fit_on.center
            for split in ("source", "target") if center is not None else ():
                if not any(fnmatch(one, center) for one in centers[split]):
                    text = f"no {split} scan is of center '{center}'"
                    allowed = ", ".join([*both, '"*"'])
                    location = (kind, name, "fit_on", "center")
                    found.problems.append(checked.document.problem(location, text, allowed=allowed))


def _given(
    checked: Checked, kind: str, name: str, scans: dict[str, tuple[ScanFacts, ...]]
) -> DataFacts:
    """What a stage gets."""
    source, target = scans["source"], scans["target"]
    labeled, learned, applied = source, target, source
    if kind in ("translate", "augment"):
        center = getattr(checked.recipe, kind)[name].fit_on.center or "*"
        labeled, learned = (
            tuple(scan for scan in each if fnmatch(scan.center, center)) or each  # which is told
            for each in (source, target)
        )
    else:
        applied = (*target, *(scans.get("validation", ()) if kind == "segment" else ()))
    return DataFacts(labeled, learned, applied, checked.recipe.data.class_table.labels)


def _check_named_centers(
    checked: Checked, location: Location, use: StageUse, given: DataFacts, found: Foresight
) -> None:
    """Centers in the options of a plugin that none of the scans it is applied to is of."""
    centers = {scan.center for scan in given.applied}

    def look(mark: NameIn, name: str, within: Location) -> str:
        if mark.table == "centers" and not any(
            fnmatch(one, name) if mark.pattern else one == name for one in centers
        ):
            text = f"{WARNING}matches no scan: {use.name} gets none of center '{name}'"
            found.note(checked, (*location, *within), text)
        return name

    with_names(use.options, look)


def _lines(use: StageUse, given: DataFacts) -> list[str]:
    """What the stage itself says of the data.

    Raises:
        PluginError: its code fails, or what it says is not text.
    """
    with explained("check_data fails", use.who, use.package), contained():
        lines = list(use.stage().check_data(given))
    if not all(isinstance(line, str) for line in lines):
        raise PluginError("check_data yields something that is not text", where=use.who)
    return lines
