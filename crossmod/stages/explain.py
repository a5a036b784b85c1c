"""Plugins and their options in words, from metadata, types and docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from crossmod.options import annotation_of, model_in, names_in
from crossmod.stages import find
from crossmod.stages.entry_points import rows
from crossmod.stages.kinds import facts, words


def plugin_rows() -> list[tuple[str, str, str, str, str]]:
    """Name, kind, distribution, version and summary of each plugin; of broken ones, the reason."""

    def told(name: str) -> tuple[str, type]:
        plugin = find.load(name)
        return plugin.kind, plugin.stage

    return rows(find.available(), told)


def option_rows(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Key, type with range, default and meaning of every option, nested tables included."""
    listed = []
    for name, field in model.model_fields.items():
        key = prefix + name
        meaning = " ".join((field.description or "").split())
        listed.append((key, words(annotation_of(field)), _default(field), meaning))
        inner = model_in(field.annotation)
        if inner is not None:
            listed += option_rows(inner, f"{key}.")
    return listed


def described(model: type[BaseModel]) -> list[dict[str, Any]]:
    """`option_rows` for programs, with the `facts` of each type.

    Defaults are as JSON has them, None where an option is required.
    """
    listed = []
    for (key, kind, _, meaning), field in zip(option_rows(model), _fields(model), strict=True):
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        listed.append(
            {
                "key": key,
                "type": kind,
                **facts(annotation_of(field)),
                "required": field.is_required(),
                "default": to_jsonable_python(default),
                "meaning": meaning,
            }
        )
    return listed


def _fields(model: type[BaseModel]) -> Iterator[FieldInfo]:
    """The field of each row, in the order of `option_rows`."""
    for field in model.model_fields.values():
        yield field
        inner = model_in(field.annotation)
        if inner is not None:
            yield from _fields(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if any(names_in(annotation_of(field))):
        return repr(value).replace("''", "evaluate.structure")
    return "" if isinstance(value, BaseModel) else repr(value)
