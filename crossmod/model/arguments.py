"""What Python code passes to a call: paths, and errors that name arguments, not options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from crossmod.errors import CrossmodError, DataError

OPTION = re.compile(
    r"(?P<start>^)?--(?P<name>data|device|out|profile|set|store|workers)(?![\w-])"
    r"(?: (?P<value>\d+))?",
    re.MULTILINE,
)
"""An option of the command line that is an argument of a call, too."""


def as_path(given: Any, name: str) -> Path:
    """An argument as a path.

    Args:
        given: what was passed.
        name: of the argument.

    Raises:
        DataError: the argument is not a path.
    """
    if isinstance(given, str | PathLike):
        return Path(given)
    raise DataError(f"{given!r:.80} is not a path", where=name, allowed="a text or a pathlib.Path")


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Let errors in this block name arguments where they name options of the command line.

    Raises:
        CrossmodError: as the block raised it.
    """
    try:
        yield
    except CrossmodError as error:
        error.args = tuple(map(in_python, (error.what, error.where, error.allowed, error.fix)))
        error.what, error.where, error.allowed, error.fix = error.args
        raise


def in_python(text: str) -> str:
    """A message for people who call Python.

    Example:
        >>> in_python("choose another folder with --out, or pass --overwrite")
        'choose another folder with `out`, or pass overwrite=True'
        >>> in_python("--set segment.folds: is not a number; or --workers 1")
        'set segment.folds: is not a number; or workers=1'
    """
    return OPTION.sub(_named, text.replace("--overwrite", "overwrite=True"))


def _named(found: re.Match[str]) -> str:
    if found["value"]:
        return f"{found['name']}={found['value']}"
    return found["name"] if found["start"] is not None else f"`{found['name']}`"
