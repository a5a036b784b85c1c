"""The one shape of what is wrong with a file: field, found, expected, what to do."""

from __future__ import annotations

from pathlib import Path

from crossmod.errors import DataError


class FileFault(DataError):
    """Something is wrong with a file whose name is not known here.

    Args:
        field: field of the header, or part of the file.
        found: what it says.
        expected: what it should say.
        fix: what to do about it.
    """

    def __init__(self, field: str, found: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, where=field, allowed=expected, fix=fix)

    @property
    def told(self) -> str:
        """In one line, for a remark."""
        return f"{self.where}: {self.what}" + (f", not {self.allowed}" if self.allowed else "")

    def of(self, path: Path) -> DataError:
        """The same, naming the file."""
        where = f"{path}: {self.where}"
        return DataError(self.what, where=where, allowed=self.allowed, fix=self.fix)
