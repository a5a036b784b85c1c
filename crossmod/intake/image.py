"""A file of any format, checked: its voxels as stored, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossmod.data.form import Form
from crossmod.data.volumes import Affine
from crossmod.intake.payload import Payload


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A file whose header and bytes have been checked.

    Attributes:
        payload: header and voxels.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        remarks: what was odd and could be mended.
        form: how the header says where the voxels lie; None for formats other than NIfTI.
    """

    payload: Payload[Any]
    affine: Affine
    remarks: tuple[str, ...]
    form: Form | None = None

    @property
    def digest(self) -> str:
        """The sha256 of the file."""
        return self.payload.digest
