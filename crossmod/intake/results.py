"""What reading a file gives: a scan, a label map, or a fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossmod.data.form import Form
from crossmod.data.volumes import Affine, FloatArray, LabelArray
from crossmod.errors import DataError


@dataclass(frozen=True, eq=False)
class Loaded:
    """One scan that has been checked.

    Attributes:
        data: float32 ``(I, J, K)``, in the units of the file.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        digest: sha256 of the bytes that were read.
        remarks: what was not as it should be and could be mended.
        form: how the header says where the voxels lie; None if it is not a NIfTI file.
    """

    data: FloatArray
    affine: Affine
    digest: str
    remarks: tuple[str, ...] = ()
    form: Form | None = None


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One label map that has been checked.

    Attributes:
        labels: uint8 ``(I, J, K)``, the values of the file.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        digest: sha256 of the bytes that were read.
        remarks: what was not as it should be and could be mended.
        partial: whether it may cover a part of the voxels of its scan.
    """

    labels: LabelArray
    affine: Affine
    digest: str
    remarks: tuple[str, ...] = ()
    partial: bool = False


class NotAScan(DataError):
    """A file holds a label map, and a scan is wanted."""


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

    def advising(self, fix: str) -> FileFault:
        """The same, with another advice."""
        return FileFault(self.where, self.what, self.allowed, fix)

    def of(self, path: Path) -> DataError:
        """The same, naming the file."""
        where = f"{path}: {self.where}"
        return DataError(self.what, where=where, allowed=self.allowed, fix=self.fix)
