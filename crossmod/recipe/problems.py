"""What is wrong with a recipe, in words: file, line, key, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from pydantic import BaseModel, ValidationError

from crossmod.options import model_in
from crossmod.recipe.files import Document
from crossmod.recipe.model import KINDS, Recipe
from crossmod.recipe.text import Location
from crossmod.stages.tables import LastRound

MAX_PROBLEMS = 100
"""Problems that are listed; nobody reads more."""

MISPLACED = {
    ("data", split, "labels"): "the unlabeled domain has labels; those to be scored against belong"
    " into evaluate.labels"
    for split in ("target", "validation")
}
"""Keys that people expect where they must not be."""


def contradictions(recipe: Recipe, document: Document) -> list[str]:
    """Problems that no single key has by itself."""
    return [
        *_class_problems(recipe, document),
        *_center_problems(recipe, document),
        *_round_problems(recipe, document),
    ]


def _class_problems(recipe: Recipe, document: Document) -> list[str]:
    table = recipe.data.class_table
    values = [value for several in table.values.values() for value in several]
    problems = []
    if len(set(values)) < len(values):
        problems.append(document.problem(("data", "classes"), "two classes share a value"))
    named: list[tuple[Location, str]] = [(("evaluate", "structure"), recipe.evaluate.structure)]
    named += [(("segment", "largest_component"), name) for name in recipe.segment.largest_component]
    known = ", ".join(table.labels)
    problems += [
        document.problem(location, f"no class is called '{name}'", allowed=known)
        for location, name in named
        if name not in table.labels
    ]
    return problems


def _center_problems(recipe: Recipe, document: Document) -> list[str]:
    centers = recipe.data.centers
    problems = []
    for kind in [name for name, kind in KINDS.items() if kind.named]:
        for name, table in getattr(recipe, kind).items():
            center = table.fit_on.center
            if center is not None and not any(fnmatch(known, center) for known in centers):
                problems.append(
                    document.problem(
                        (kind, name, "fit_on", "center"),
                        f"no center is called '{center}'",
                        allowed=", ".join(centers),
                        near=nearest(center, centers),
                    )
                )
    return problems


def _round_problems(recipe: Recipe, document: Document) -> list[str]:
    """What the last round of self-training cannot change."""
    if recipe.pseudo_label is None or recipe.pseudo_label.last is None:
        return []
    last, where = recipe.pseudo_label.last, ("pseudo_label", "last")
    problems = []
    if last.preprocess and last.train_on == "all":
        problems.append(
            document.problem(
                (*where, "preprocess"),
                "translated images are not made anew for another grid",
                allowed='with train_on = "target"',
            )
        )
    if recipe.pseudo_label.warm_start and _needs_another_network(last):
        problems.append(
            document.problem(
                where,
                "another grid or fold count needs another network, which cannot go on from the"
                " weights of the round before",
                allowed="warm_start = false",
            )
        )
    return problems


def _needs_another_network(last: LastRound) -> bool:
    return bool(last.preprocess) or "folds" in last.segment or "use" in last.segment


def nearest(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """The known name that looks most like ``word``, or nothing.

    Example:
        >>> nearest("fold", ["folds", "epochs"])
        'folds'
        >>> nearest("xyz", ["folds", "epochs"])
        ''
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else ""


def explain(
    error: ValidationError,
    prefix: Location,
    model: type[BaseModel],
    document: Document,
    extra: Sequence[str] = (),
) -> list[str]:
    """One message for each error pydantic found, located in the recipe file."""
    problems = []
    for found in error.errors(include_url=False)[: MAX_PROBLEMS + 1]:
        location = tuple(part for part in (*prefix, *found["loc"]) if part != "[key]")
        if location in MISPLACED:
            message, near, allowed = MISPLACED[location], "", ""
        elif found["type"] == "extra_forbidden":
            known = [*extra, *_fields_at(model, found["loc"][:-1])]
            word = str(found["loc"][-1])
            message = f"unknown key '{word}'"
            near, allowed = nearest(word, known), ", ".join(known)
        else:
            message, near, allowed = found["msg"], "", ""
            if found["type"] != "missing":
                message += f", found {found['input']!r}"[:120]
        problems.append(document.problem(location, message, allowed=allowed, near=near))
    return problems


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at a location inside ``model`` takes."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = model_in(field.annotation) if field else None
        # Indices of lists and names in mappings stay at the same model.
    return list(current.model_fields) if current is not None else []
