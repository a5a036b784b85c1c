"""Damaged files of steps, told by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossmod.errors import DataError


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn what a damaged file leads to in this block into an error that names it.

    Raises:
        DataError: for any error of a parser, and for what the file lacks.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"is damaged: {type(error).__name__}: {error}",
            where=str(file),
            fix="remove its folder, then run the recipe again",
        ) from error
