"""What reading a scan or a label map gives."""

from __future__ import annotations

from dataclasses import dataclass

from crossmod.data.volumes import Affine, FloatArray, LabelArray


@dataclass(frozen=True, eq=False)
class Loaded:
    """One scan that has been checked.

    Attributes:
        data: float32 ``(I, J, K)``, in the units of the file.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        digest: sha256 of the bytes that were read.
        remarks: what was not as it should be and could be mended.
    """

    data: FloatArray
    affine: Affine
    digest: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One label map that has been checked.

    Attributes:
        labels: uint8 ``(I, J, K)``, the values of the file.
        affine: ``(4, 4)`` voxel -> RAS+ mm.
        digest: sha256 of the bytes that were read.
        remarks: what was not as it should be and could be mended.
    """

    labels: LabelArray
    affine: Affine
    digest: str
    remarks: tuple[str, ...] = ()
