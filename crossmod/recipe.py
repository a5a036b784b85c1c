"""Recipes: TOML that reads like a methods section, validated all the way down.

Every problem of a recipe is found at once, each with file, line, key and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crossmod import plugins
from crossmod.errors import PluginError, RecipeError
from crossmod.options import Options, model_in
from crossmod.recipe_files import Document, read_document
from crossmod.recipe_model import (
    AugmentTable,
    LearningTable,
    PseudoLabelTable,
    Recipe,
    SegmentTable,
    StageTable,
)
from crossmod.stages import Stage


@dataclass(frozen=True)
class StageUse:
    """A plugin with its validated options, under the name it has in the recipe."""

    name: str
    plugin: plugins.Plugin
    options: Options

    def stage(self) -> Stage[Any]:
        """The stage, ready to work."""
        return self.plugin.stage(self.options)


@dataclass(frozen=True)
class Checked:
    """A valid recipe with its stages resolved."""

    recipe: Recipe
    translators: tuple[StageUse, ...]
    augmenters: tuple[StageUse, ...]
    segmenter: StageUse
    pseudo_labeler: StageUse | None
    document: Document


def load(path: Path, settings: Sequence[str] = ()) -> Checked:
    """Read, extend, override and validate a recipe.

    Args:
        path: the TOML file.
        settings: ``a.b=c`` overrides, later ones win.

    Raises:
        RecipeError: names every problem with file, line, key and what is allowed.
    """
    document = read_document(path, settings)
    tables = document.tables
    problems: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        problems += explain(error, (), Recipe, document)
    uses = _resolve(tables, document, problems)
    if recipe is not None:
        problems += _contradictions(recipe, document)
    if problems or recipe is None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise RecipeError("\n".join([f"{path}: {count}", *problems]))
    return Checked(
        recipe,
        tuple(use for (kind, _), use in uses.items() if kind == "translate"),
        tuple(use for (kind, _), use in uses.items() if kind == "augment"),
        uses["segment", ""],
        uses.get(("pseudo_label", "")),
        document,
    )


CORE_TABLES: Mapping[str, type[StageTable]] = {
    "translate": LearningTable,
    "augment": AugmentTable,
    "segment": SegmentTable,
    "pseudo_label": PseudoLabelTable,
}


def _stage_tables(tables: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(kind, step name, table) of every stage in the order written."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    for kind in CORE_TABLES:
        table = tables.get(kind)
        if not isinstance(table, Mapping):
            continue
        many = kind in ("translate", "augment")
        named = table.items() if many else [("", table)]
        found += [(kind, name, one) for name, one in named if isinstance(one, Mapping)]
    return found


def _resolve(
    tables: Mapping[str, Any], document: Document, problems: list[str]
) -> dict[tuple[str, str], StageUse]:
    """Load the plugin of every stage table and validate its options."""
    uses: dict[tuple[str, str], StageUse] = {}
    for kind, name, table in _stage_tables(tables):
        location = (kind, name) if name else (kind,)
        wanted = table.get("use")
        if not isinstance(wanted, str):
            continue  # the core model has said so
        try:
            plugin = plugins.load(wanted)
        except PluginError as error:
            problems.append(_plugin_problem(error, wanted, (*location, "use"), document))
            continue
        if plugin.kind != kind:
            known = [n for n in plugins.available() if _kind_of(n) == kind]
            problems.append(
                document.problem(
                    (*location, "use"),
                    f"'{wanted}' is a plugin for [{plugin.kind}]",
                    allowed=", ".join(known),
                )
            )
            continue
        core = CORE_TABLES[kind].model_fields
        own = {key: value for key, value in table.items() if key not in core}
        try:
            options = plugin.stage.options_type.model_validate(own)
        except ValidationError as error:
            extra = [key for key in core if key not in own]
            problems += explain(error, location, plugin.stage.options_type, document, extra)
            continue
        uses[kind, name] = StageUse(f"{kind}-{name}" if name else kind, plugin, options)
    return uses


def _kind_of(name: str) -> str:
    try:
        return plugins.load(name).kind
    except PluginError:
        return ""


def _plugin_problem(
    error: PluginError, wanted: str, location: tuple[str, ...], document: Document
) -> str:
    known = plugins.available()
    near = "" if wanted in known else nearest(wanted, known)
    return document.problem(location, error.what, allowed=error.allowed, near=near)


def _contradictions(recipe: Recipe, document: Document) -> list[str]:
    """Problems that no single key has by itself."""
    problems = []
    values = sorted(recipe.data.classes.values())
    if values != list(range(1, len(values) + 1)):
        problems.append(document.problem(("data", "classes"), "label values must be 1, 2, 3, …"))
    if recipe.evaluate.structure not in recipe.data.classes:
        problems.append(
            document.problem(
                ("evaluate", "structure"),
                f"no class is called '{recipe.evaluate.structure}'",
                allowed=", ".join(recipe.data.classes),
            )
        )
    for name in recipe.segment.largest_component:
        if name not in recipe.data.classes:
            problems.append(
                document.problem(
                    ("segment", "largest_component"),
                    f"no class is called '{name}'",
                    allowed=", ".join(recipe.data.classes),
                )
            )
    for kind in ("translate", "augment"):
        for name, table in getattr(recipe, kind).items():
            center = table.fit_on.center
            if center is not None and center not in recipe.data.centers:
                problems.append(
                    document.problem(
                        (kind, name, "fit_on", "center"),
                        f"no center is called '{center}'",
                        allowed=", ".join(recipe.data.centers),
                        near=nearest(center, recipe.data.centers),
                    )
                )
    return problems


def nearest(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """The known name that looks most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else ""


def explain(
    error: ValidationError,
    prefix: tuple[str, ...],
    model: type[BaseModel],
    document: Document,
    extra: Sequence[str] = (),
) -> list[str]:
    """One message for each error pydantic found, located in the recipe file."""
    problems = []
    for found in error.errors(include_url=False):
        location = (*prefix, *found["loc"])
        if found["type"] == "extra_forbidden":
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
