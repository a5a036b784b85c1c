"""Names of tags, and their values where they are fit for use."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable
from typing import Any

from crossmod.errors import DataError

UID = re.compile(r"[0-9.]{1,64}")


def tag_name(keyword: str) -> str:
    """How a tag is called in messages: ``(0020,0032) ImagePositionPatient``."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def unusable(keyword: str, file: str) -> DataError:
    """A tag is missing, or its value is not of its kind; the value is not said."""
    return DataError(f"has no usable {tag_name(keyword)}", where=file)


def value_of(item: Any, keyword: str, file: str) -> Any:
    """The value of a tag, or None where it is missing.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        return None if item is None else item.get(keyword)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # what pydicom raises for wrong values is not one type
        raise unusable(keyword, file) from error


def numbers(item: Any, keyword: str, count: int, file: str) -> tuple[float, ...]:
    """The finite numbers of a tag.

    Raises:
        DataError: there are not ``count`` of them.
    """
    value = value_of(item, keyword, file)
    parts = [value] if isinstance(value, (int, float, str)) else value
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise unusable(keyword, file) from error
    if len(found) != count or not all(map(math.isfinite, found)):
        raise unusable(keyword, file)
    return found


def whole(item: Any, keyword: str, file: str, allowed: Container[int] = range(1, 2**31)) -> int:
    """The whole number of a tag.

    Raises:
        DataError: it is not an allowed value.
    """
    [found] = numbers(item, keyword, 1, file)
    if int(found) != found or int(found) not in allowed:
        raise unusable(keyword, file)
    return int(found)


def uid_of(item: Any, keyword: str, file: str) -> str:
    """The unique identifier of a tag.

    Raises:
        DataError: it is not one; anything but digits and dots could be a name.
    """
    value = str(value_of(item, keyword, file) or "")
    if not UID.fullmatch(value):
        raise unusable(keyword, file)
    return value


def text_of(item: Any, keyword: str, file: str) -> str:
    """The text of a tag, one printable line; empty if it is missing."""
    value = value_of(item, keyword, file)
    return "".join(c if c.isprintable() else " " for c in str(value or "")).strip()


def first_item(groups: Iterable[Any], keyword: str, file: str) -> Any:
    """The item of a sequence in the first of some items that have it, or None."""
    for group in groups:
        found = value_of(group, keyword, file)
        if found:
            try:
                return found[0]
            except (TypeError, KeyError, IndexError) as error:  # no sequence at all
                raise unusable(keyword, file) from error
    return None
