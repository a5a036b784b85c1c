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
        listed.append((key, type_text(field), _default(field), meaning))
        inner = model_in(field.annotation)
        if inner is not None:
            listed += option_rows(inner, f"{key}.")
    return listed


def described(model: type[BaseModel]) -> list[dict[str, Any]]:
    """`option_rows` for programs: defaults as JSON has them, None where an option is required."""
    listed = []
    for (key, kind, _, meaning), field in zip(option_rows(model), _fields(model), strict=True):
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        listed.append(
            {
                "key": key,
                "type": kind,
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


def type_text(field: FieldInfo) -> str:
    """The type of an option with its bounds, in plain words.

    Example:
        >>> from crossmod.data.grids import Preprocess
        >>> type_text(Preprocess.model_fields["clip_fractions"])
        'tuple of float >= 0.0 <= 1.0'
    """
    text = _name(field.annotation)
    bounds = [_bound(constraint) for constraint in field.metadata]
    return " ".join([text, *filter(None, bounds)])


NO_LIMIT = 1_000_000_000
"""The upper bound of counts, which only keeps arithmetic safe; it is not shown."""

SYMBOLS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _bound(constraint: Any) -> str:
    parts = [
        f"{symbol} {getattr(constraint, name)}"
        for name, symbol in SYMBOLS.items()
        if getattr(constraint, name, None) not in (None, NO_LIMIT)
    ]
    return " ".join(parts)


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    arguments = getattr(annotation, "__args__", ())
    metadata = getattr(annotation, "__metadata__", ())
    if metadata:  # Annotated: the bounds of list and tuple items
        inner = [_bound(item) for item in getattr(metadata[0], "metadata", metadata)]
        return " ".join([_name(annotation.__origin__), *filter(None, inner)])
    if arguments:
        return _composite(annotation, arguments)
    return getattr(annotation, "__name__", str(annotation))


def _composite(annotation: Any, arguments: tuple[Any, ...]) -> str:
    origin = getattr(annotation, "__origin__", None)
    if "Literal" in str(origin) or str(annotation).startswith("typing.Literal"):
        return " | ".join(f'"{value}"' for value in arguments)
    names = [_name(argument) for argument in arguments if argument is not Ellipsis]
    if origin in (list, tuple, dict):
        return f"{origin.__name__} of {', '.join(dict.fromkeys(names))}"
    return " | ".join("none" if name == "NoneType" else name for name in names)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if any(names_in(annotation_of(field))):
        return repr(value).replace("''", "evaluate.structure")
    return "" if isinstance(value, BaseModel) else repr(value)
