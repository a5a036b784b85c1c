"""What is wrong with a recipe, in words: file, line, key, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from crossmod.data.guided import guided_groups
from crossmod.options import Location, model_in
from crossmod.recipe.files import Document
from crossmod.recipe.model import Recipe
from crossmod.recipe.wrong import wrong_values
from crossmod.stages.find import StageUse
from crossmod.stages.tables import LastRound

MAX_PROBLEMS = 100
"""Most problems that are listed."""

MAX_WORD = 100
"""Characters of a word for which the nearest known one is looked up."""

MISPLACED = {
    ("data", split, "labels"): "the target domain is unlabeled; put the pattern of"
    " reference label maps into evaluate.labels"
    for split in ("target", "validation")
} | {
    ("preprocess", domain, key): "both domains share one grid: set it in [preprocess]"
    for domain in ("source", "target")
    for key in ("spacing_mm", "crop")
}
"""Keys that people write where they must not be."""


def contradictions(recipe: Recipe, document: Document) -> list[str]:
    """Problems that involve several keys."""
    return [
        *_class_problems(recipe, document),
        *_round_problems(recipe, document),
    ]


def _class_problems(recipe: Recipe, document: Document) -> list[str]:
    """Classes that share a value."""
    owners: dict[int, list[str]] = {}
    for name, values in recipe.data.class_table.values.items():
        for value in values:
            owners.setdefault(value, []).append(name)
    problems = []
    for value, names in owners.items():
        if len(names) > 1:
            text = f"{' and '.join(map(repr, names))} have the same value {value}"
            fix = f"remove one of them, as in `{names[0]} = false`, or give it another value"
            location = ("data", "classes", names[-1])
            problems.append(document.problem(location, text, fix=fix))
    return problems


def _round_problems(recipe: Recipe, document: Document) -> list[str]:
    """Changes that the last round of self-training cannot make."""
    if recipe.pseudo_label is None or recipe.pseudo_label.last is None:
        return []
    last, where = recipe.pseudo_label.last, ("pseudo_label", "last")
    problems = []
    if last.preprocess and last.train_on == "all":
        problems.append(
            document.problem(
                (*where, "preprocess"),
                "translated images exist on one grid only",
                allowed='another grid with train_on = "target"',
            )
        )
    if recipe.pseudo_label.warm_start and _needs_another_network(last):
        problems.append(
            document.problem(
                where,
                "another grid or number of folds needs another network, which cannot start from the"
                " weights of the previous round",
                allowed="warm_start = false",
            )
        )
    return problems


def guide_problems(
    recipe: Recipe, uses: Mapping[tuple[str, str], StageUse], document: Document
) -> Iterator[str]:
    """Augmentation that pseudo-labels should guide in a recipe that makes none."""
    for (kind, name), use in uses.items():
        groups = guided_groups(use.options) if kind == "augment" else []
        if groups and recipe.pseudo_label is None:
            yield document.problem(
                (kind, name, "groups"),
                f"group '{groups[0].name}' is guided by pseudo-labels, and the recipe makes none",
                allowed="lists of means or factors without [pseudo_label]",
            )


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
    errors = error.errors(include_url=False)[: MAX_PROBLEMS + 1]
    for found, wrong in wrong_values(errors, model):
        location = tuple(part for part in (*prefix, *wrong.location) if part != "[key]")
        if location in MISPLACED:
            problem = document.problem(location, MISPLACED[location])
        elif found["type"] == "extra_forbidden":
            known = [*extra, *_fields_at(model, found["loc"][:-1])]
            word = str(found["loc"][-1])
            near, allowed = nearest(word, known), ", ".join(known)
            text = f"unknown key '{word}'"
            problem = document.problem(location, text, allowed=allowed, near=near)
        else:
            near = nearest(str(found["input"])[:MAX_WORD], wrong.choices)
            problem = document.problem(location, wrong.text, allowed=wrong.allowed, near=near)
        problems.append(problem)
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
