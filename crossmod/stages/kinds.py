"""Types of options in plain words, with their bounds, and as facts for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crossmod.options import NameIn, names_in

NO_LIMIT = 1_000_000_000
"""The upper bound of counts and lengths, which only keeps arithmetic safe."""

BOUNDS = {"ge": "minimum", "gt": "exclusive_minimum", "le": "maximum", "lt": "exclusive_maximum"}
"""Bounds as the marks of types name them -> as JSON Schema does, in snake case."""


def words(kind: Any, *, whole: bool = False) -> str:
    """A type with its bounds.

    Args:
        kind: a type as it is written, with its marks.
        whole: name bounds, too, that are only there to keep arithmetic safe.

    Example:
        >>> from crossmod.options import Count, Fraction
        >>> words(tuple[Fraction, Fraction] | None)
        'tuple of float from 0 to 1, 2 items | none'
        >>> words(Count), words(Count, whole=True)
        ('int from 1', 'int from 1 to 1000000000')
    """
    kind, marks = parted(kind)
    if name := next((mark for mark in marks if isinstance(mark, NameIn)), None):
        return name.words
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(words(one, whole=whole) for one in arguments)
    if kind is NoneType:
        return "none"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table"
    text = getattr(kind, "__name__", str(kind))
    if origin in (list, tuple, dict):
        items = dict.fromkeys(words(one, whole=whole) for one in arguments if one is not ...)
        text = f"{text} of {', '.join(items)}"
    spoken = f"{text} {_range(marks, whole)}".strip()
    return ", ".join(filter(None, [spoken, _length(kind, marks), _pattern(marks)]))


def facts(kind: Any) -> dict[str, Any]:
    """What a type allows, for programs; of a list or tuple, what its items are.

    Returns:
        ``minimum``, ``exclusive_minimum``, ``maximum`` and ``exclusive_maximum``: numbers;
        ``choices``: the words it may be; ``name_of``: "class" or "center" where it names one.
        Each is None where it does not apply.

    Example:
        >>> from crossmod.options import Size
        >>> facts(Size)["minimum"], facts(Size)["maximum"], facts(Size)["choices"]
        (1, 10000, None)
    """
    found: dict[str, Any] = {**dict.fromkeys(BOUNDS.values()), "choices": None, "name_of": None}
    choices = [
        value for one in _parts(kind) if get_origin(one) is Literal for value in get_args(one)
    ]
    for mark in chain.from_iterable(parted(one)[1] for one in _parts(kind)):
        for name, fact in BOUNDS.items():
            if found[fact] is None:
                found[fact] = getattr(mark, name, None)
    named = next((mark.singular for mark in names_in(kind)), None)
    return {**found, "choices": choices or None, "name_of": named}


def parted(kind: Any) -> tuple[Any, list[Any]]:
    """A type without its marks, and these, one by one."""
    if get_origin(kind) is not Annotated:
        return kind, []
    inner, marks = parted(kind.__origin__)
    for mark in kind.__metadata__:
        marks += mark.metadata if isinstance(mark, FieldInfo) else [mark]
    return inner, marks


def _parts(kind: Any) -> Iterator[Any]:
    """A type and all types inside it."""
    yield kind
    for inner in get_args(parted(kind)[0]):
        yield from _parts(inner)


def _range(marks: list[Any], whole: bool) -> str:
    """The bounds of a number; empty if it has none."""
    low, above, high, below = (_bound(marks, name) for name in BOUNDS)
    if high == NO_LIMIT and not whole:
        high = None
    parts = [f"from {low:.15g}"] if low is not None else []
    parts += [f"above {above:.15g}"] if above is not None else []
    parts += [f"{'to' if low is not None else 'up to'} {high:.15g}"] if high is not None else []
    parts += [f"below {below:.15g}"] if below is not None else []
    return " ".join(parts)


def _length(kind: Any, marks: list[Any]) -> str:
    """How long a text or a series is; empty if that is open."""
    items = get_args(kind)
    if get_origin(kind) is tuple and ... not in items:
        return f"{len(items)} items"
    least, most = _bound(marks, "min_length"), _bound(marks, "max_length")
    what = "characters" if kind is str else "items"
    if least and most is not None:
        return f"{least} to {most} {what}"
    if most is not None:
        return f"at most {most} {what}"
    return f"at least {least} {what if least > 1 else what[:-1]}" if least else ""


def _pattern(marks: list[Any]) -> str:
    pattern = _bound(marks, "pattern")
    return f"matching {pattern}" if pattern else ""


def _bound(marks: list[Any], name: str) -> Any:
    found = (getattr(mark, name, None) for mark in marks)
    return next((bound for bound in found if bound is not None), None)
