"""Names of classes and centers in options: looked up in [data], and filled in where left open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from crossmod.data.crossmoda import DEFAULT_STRUCTURE
from crossmod.options import Location, NameIn, annotation_of, with_names
from crossmod.recipe.files import Document
from crossmod.recipe.model import Recipe
from crossmod.recipe.problems import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)

TABLES = ("classes", "centers")


@dataclass(frozen=True)
class Names:
    """What a recipe calls its classes and centers.

    Attributes:
        document: the recipe, valid or not.
        known: "classes" or "centers" -> names; a table that cannot be read is left out.
        structure: what an empty class name stands for.
    """

    document: Document
    known: Mapping[str, tuple[str, ...]]
    structure: str

    @classmethod
    def of(cls, document: Document) -> Names:
        """The names in the tables of a document."""
        data, evaluate = (_table(document.tables, name) for name in ("data", "evaluate"))
        known = {name: tuple(_table(data, name)) for name in TABLES if _table(data, name)}
        structure = evaluate.get("structure", DEFAULT_STRUCTURE)
        return cls(document, known, structure if isinstance(structure, str) else "")

    def resolved(
        self,
        options: ModelT,
        location: Location,
        problems: list[str],
        concerns: Callable[[Location], bool] = lambda within: True,
    ) -> ModelT:
        """Options whose empty class names are filled in.

        Args:
            options: valid options.
            location: where they stand in the recipe.
            problems: takes a message for each name that [data] does not have.
            concerns: whether a location within the options is looked up.
        """

        def change(mark: NameIn, name: str, within: Location) -> str:
            if mark.table == "classes" and not name and self.structure:
                return self.structure  # [evaluate] answers for it
            if not self._has(mark, name) and concerns(within):
                known = self.known[mark.table]
                text = f"no {mark.singular} is called '{name}'"
                at, near = (*location, *within), nearest(name, known)
                message = self.document.problem(at, text, allowed=", ".join(known), near=near)
                problems.append(message)
            return name

        return with_names(options, change)

    def check_parts(self, problems: list[str]) -> None:
        """Look up the names in those tables of an invalid recipe that are valid by themselves."""
        for key, field in Recipe.model_fields.items():
            with suppress(ValidationError):
                given = self.document.tables.get(key)
                part = TypeAdapter(annotation_of(field)).validate_python(given)
                named = part.items() if isinstance(part, Mapping) else [(None, part)]
                for name, one in named:
                    if isinstance(one, BaseModel):
                        self.resolved(one, (key, name) if name else (key,), problems)

    def _has(self, mark: NameIn, name: str) -> bool:
        known = self.known.get(mark.table)
        if known is None:  # the table is missing or wrong, which is said
            return True
        return name in known or (mark.pattern and any(fnmatch(one, name) for one in known))


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, Mapping) else {}
