"""What is wrong with one value of a recipe, and what its key takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel

from crossmod.options import Location, annotation_of, model_in, sides
from crossmod.stages.kinds import facts, parted, words

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST = 100
"""Characters of a value that a message repeats."""

WRONG_TYPE = "has the wrong type"

FAULTS = {
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "too_short": "has too few items",
    "too_long": "has too many items",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "is written in another way",
    "literal_error": "is not one of the choices",
    "finite_number": "is not finite",
    "int_from_float": "is not an integer",
}
"""What pydantic finds -> what is said of the value."""


@dataclass(frozen=True)
class Wrong:
    """A value that its key does not take.

    Attributes:
        location: the key within its table.
        text: what is wrong with it.
        allowed: the type of the key with its bounds; empty where `text` says what to write.
        choices: the words that the key takes, if it takes words.
    """

    location: Location
    text: str
    allowed: str = ""
    choices: tuple[str, ...] = ()


def wrong_value(found: ErrorDetails, model: type[BaseModel]) -> Wrong:
    """What pydantic found in a table, in our words.

    Args:
        found: one of its errors.
        model: the class of the table.
    """
    location, value, fault = tuple(found["loc"]), found["input"], found["type"]
    if fault == "missing" and isinstance(location[-1], int):
        location, fault = location[:-1], "too_short"
    if fault == "missing":
        return Wrong(location, "is missing")
    message = found["msg"].removeprefix("Value error, ")
    said = FAULTS.get(fault, WRONG_TYPE if fault.endswith(("_type", "_parsing")) else "")
    kind, depth = _kind_at(model, location)
    if not said or kind is None:
        return Wrong(location, f"{message}, found {value!r}"[: MOST + len(message)])
    shown = repr(value)
    shown = shown if len(shown) <= MOST else f"{shown[:MOST]}…"
    choices = tuple(one for one in facts(kind)["choices"] or () if isinstance(one, str))
    return Wrong(location[:depth], f"{shown} {said}", words(kind, whole=True), choices)


def wrong_values(
    found: Iterable[ErrorDetails], model: type[BaseModel]
) -> list[tuple[ErrorDetails, Wrong]]:
    """What pydantic found, once for each key.

    Where a key has one of several types, each type has its say; what is wrong with a value of the
    right type comes first.
    """
    first: dict[Location, tuple[ErrorDetails, Wrong]] = {}
    for one in found:
        wrong = wrong_value(one, model)
        known = first.get(wrong.location)
        if known is None or known[1].text.endswith(WRONG_TYPE):
            first[wrong.location] = one, wrong
    return list(first.values())


def _kind_at(model: type[BaseModel], location: Location) -> tuple[Any, int]:
    """The type at a location, and how many parts of that lead to it.

    Behind a type that is one of several, pydantic says which of these it means; the key is what
    leads to all of them. The type is None where several remain, or where the value is a table.
    """
    kind: Any = model
    for depth, part in enumerate(location):
        inner = _entered(kind, part)
        if inner is None:
            is_one_of_several = _members(kind) and model_in(kind) is None
            return (kind, depth) if is_one_of_several else (None, depth)
        kind = inner
    return (kind if model_in(kind) is None else None), len(location)


def _entered(kind: Any, part: str | int) -> Any:
    """The type of a key or an item inside a type; None where that is not known."""
    members = _members(kind)
    if len(members) == 1:
        return _entered(members[0], part)
    kind, _ = parted(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return annotation_of(field) if field else None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, tuple) and isinstance(part, int) and arguments:
        is_fixed = origin is tuple and ... not in arguments
        return arguments[min(part, len(arguments) - 1)] if is_fixed else arguments[0]
    if origin is dict:
        return sides(kind)[1]
    return None


def _members(kind: Any) -> list[Any]:
    """The types that a value may be one of, None aside; empty for a single type."""
    kind, _ = parted(kind)
    if get_origin(kind) not in (Union, UnionType):
        return []
    return [one for one in get_args(kind) if one is not NoneType]
