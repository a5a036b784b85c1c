"""Where a path leads, as the system resolves it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

HERE = (None, -1)
"""How Python says that a path is relative to the working folder."""


def place_of(path: Any, handle: int | None, follow: bool) -> str | None:
    """The place that a path names.

    Args:
        path: text, bytes or an object that is one.
        handle: an open folder that the path is relative to; None or -1 is the working folder.
        follow: whether a link at the end of the path is followed.

    Returns:
        An absolute path without links; None where the system does not report open folders.
    """
    try:
        base = "" if handle in HERE else os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
    except OSError:
        return None
    whole = os.path.join(base, os.fsdecode(path))  # noqa: PTH118
    folder, name = os.path.split(whole)
    if follow or name in ("", os.curdir, os.pardir):
        return os.path.realpath(whole)  # links first, then `..`, as the system does
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118


def database(name: Any) -> str | None:
    """The file that SQLite opens for writing under a name; None if it opens none."""
    text = os.fsdecode(name)
    if text.startswith("file:"):
        address = urlsplit(text)
        if {"ro", "memory"} & set(parse_qs(address.query).get("mode", [])):
            return None
        text = unquote(address.path)
    return None if text in ("", ":memory:") else text
