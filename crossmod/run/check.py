"""A recipe and the data folder it would run on, looked at together: all problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.errors import DataError
from crossmod.intake.classes import lines_on_classes
from crossmod.intake.survey import require_none
from crossmod.recipe.load import Examined, examine
from crossmod.recipe.model import Recipe
from crossmod.run.data import check_data, reading_of, survey_data, too_small
from crossmod.run.foresight import Looked, foresee
from crossmod.stages.context import Progress, silent_progress


@dataclass
class Findings:
    """What is known of a recipe and its data before anything is computed.

    Attributes:
        examined: the recipe.
        lines: what the data folder holds.
        problems: what is wrong with the data, or with options for these data.
        warnings: options that do nothing with these data.
        notes: what is odd about files, and could be mended.
    """

    examined: Examined
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def require(self) -> None:
        """Refuse a recipe or data with problems.

        Raises:
            RecipeError: names all of them, if the recipe has any.
            DataError: names all of them, if only the data have any.
        """
        self.examined.require(self.problems)
        require_none(self.problems)


def check(
    recipe: Path,
    data: Path | None,
    settings: Sequence[str] = (),
    *,
    allow_outside: bool = False,
    progress: Progress = silent_progress,
) -> Findings:
    """Look at a recipe and, if there is one, at the label maps and headers of a data folder.

    Args:
        recipe: the file.
        data: the data folder, or None for the recipe alone.
        settings: ``a.b=c`` overrides of the recipe.
        allow_outside: follow links out of the data folder, and `extends` out of the recipe's.
        progress: wraps the iteration over files.

    Raises:
        RecipeError: the recipe cannot be read.
    """
    found = Findings(examine(recipe, settings, allow_outside=allow_outside))
    if data is None:
        small = (text for one in found.examined.recipes for text in too_small(one))
        found.problems += dict.fromkeys(small)
        return found
    seen: dict[str, Looked | None] = {}
    for one in found.examined.recipes:
        key = reading_of(one)
        if key not in seen:
            seen[key] = _look(one, data, found, allow_outside, progress)
    for checked in found.examined.checked:
        if looked := seen[reading_of(checked.recipe)]:
            foreseen = foresee(checked, looked)
            found.problems += foreseen.problems
            found.warnings += foreseen.warnings
    found.problems = list(dict.fromkeys(found.problems))  # variants share most of their lines
    found.warnings = list(dict.fromkeys(found.warnings))
    found.notes = list(dict.fromkeys(found.notes))
    found.lines = list(dict.fromkeys(found.lines))
    return found


def _look(
    recipe: Recipe, data: Path, found: Findings, allow_outside: bool, progress: Progress
) -> Looked | None:
    """The scans of a recipe and what their files hold; None if they cannot be found."""
    try:
        inventory = check_data(recipe, data, allow_outside=allow_outside)
    except DataError as error:
        found.problems.append(str(error))
        return None
    survey = survey_data(recipe, data, inventory, progress=progress, labels_only=True)
    found.lines += [*inventory.lines(), *lines_on_classes(survey)]
    found.problems += survey.problems
    found.notes += [text for _, text in survey.remarks]
    return Looked(recipe, inventory, survey)
