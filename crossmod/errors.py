"""Errors a user can act on: where it happened, what is wrong, what was allowed, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class CrossmodError(Exception):
    """An error shown to the user as a message, without a traceback.

    Args:
        what: one sentence saying what is wrong.
        where: file and line, recipe key, case or step the sentence is about.
        allowed: what would have been accepted.
        fix: what to do about it.

    Example:
        >>> print(DataError("cannot be read", where="a.nii", allowed=".nii.gz", fix="convert it"))
        a.nii: cannot be read
          allowed: .nii.gz
          convert it
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", fix: str = "") -> None:
        super().__init__(what, where, allowed, fix)
        self.what, self.where, self.allowed, self.fix = what, where, allowed, fix

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders; keyword-only arguments need a rebuilder.
        return _rebuild, (type(self), self.what, self.where, self.allowed, self.fix)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        details = [f"  allowed: {self.allowed}"] if self.allowed else []
        details += [f"  {self.fix}"] if self.fix else []
        return "\n".join([head, *details])


def with_extra(extra: str) -> str:
    """What to do where an extra of crossmod is missing; its name is on no registry."""
    return f"in the source folder of crossmod: pip install -c constraints.txt '.[{extra}]'"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names of a message, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def elided(names: Sequence[str], most: int = 5) -> str:
    """The first names of a message, where it gives their number itself.

    Example:
        >>> elided(["a", "b", "c"], most=2)
        'a, b, …'
    """
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def itemized(what: str, lines: Sequence[str], most: int = 10) -> str:
    """A message with a line for each of its first items.

    Example:
        >>> print(itemized("impossible values:", ["one", "two", "three"], most=2))
        impossible values:
        one
        two
        and 1 more
    """
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([what, *lines[:most], *more])


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "problem"), counted(2, "problem")
        ('1 problem', '2 problems')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def _rebuild(
    kind: type[CrossmodError], what: str, where: str, allowed: str, fix: str
) -> CrossmodError:
    return kind(what, where=where, allowed=allowed, fix=fix)


class RecipeError(CrossmodError):
    """The recipe says something that cannot be run."""

    exit_code = 2


class DataError(CrossmodError):
    """A file or a set of files is not what the recipe needs."""

    exit_code = 3


class MachineError(CrossmodError):
    """This machine or environment lacks something the run needs."""

    exit_code = 4


class Interrupted(CrossmodError):
    """The run was asked to stop; its results are kept, and the same command resumes it."""

    exit_code = 5


class PluginError(CrossmodError):
    """A plugin cannot be loaded or broke the contract of its stage."""

    exit_code = 4


class NotFinite(PluginError):
    """A loss, or what a plugin learned or yielded, is NaN or infinite."""


@contextmanager
def reading(path: Path | str, what: str = "cannot be read") -> Iterator[None]:
    """Turn an OSError in this block into a DataError about what is read.

    Raises:
        DataError: for any OSError; gives the system's message, or else the type of the error.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{what}: {reason}", where=str(path)) from error


@contextmanager
def writing(
    path: Path | str,
    what: str = "cannot be written",
    fix: str | None = None,
) -> Iterator[None]:
    """Turn an OSError in this block into a MachineError about what is written.

    Args:
        path: what is written.
        what: what is wrong with it.
        fix: what to do about it; by default what `remedy` says.

    Raises:
        MachineError: for any OSError.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"{what}: {error.strerror or error}",
            where=str(path),
            fix=remedy(error) if fix is None else fix,
        ) from error


def remedy(error: OSError, place: str = "another place") -> str:
    """What to do where something cannot be written.

    Args:
        error: what the system says.
        place: what to choose in its stead.

    Example:
        >>> remedy(OSError(errno.EROFS, "Read-only file system"), "another folder with --out")
        'choose another folder with --out, or change who may write there'
    """
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"choose {place}, or change who may write there"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free up disk space, or choose {place}"
    return f"choose {place}"
