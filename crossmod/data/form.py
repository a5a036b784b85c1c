"""How the header of a NIfTI file says where its voxels lie, kept for outlines of the scan.

A file has two affines, qform and sform, each with a code. Readers differ in which of them they
follow: an outline with the fields of its scan lies on the scan in every reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod.data.nifti import NIFTI1_SIDE, save
from crossmod.data.volumes import Affine, LabelArray

FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
"""The fields of nifti1.h that say it, besides the first four of `pixdim`."""

SIZES = "pixdim"

SCANNER = 1
"""NIfTI's code of an affine that refers to the scanner."""


@dataclass(frozen=True)
class Form:
    """The fields of a header that place its voxels, as they stand there.

    Attributes:
        fields: name -> numbers, as JSON keeps them.
    """

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Any) -> Form:
        """The form in all fields of a header by name."""
        sizes = {SIZES: raw[SIZES][:4].tolist()}
        return cls({**sizes, **{name: raw[name].tolist() for name in FIELDS}})


def write_outline(path: Path, labels: LabelArray, affine: Affine, form: Form | None) -> None:
    """Write a label map ``(I, J, K)`` that every reader puts where it puts the scan.

    Args:
        path: the file.
        labels: the label map on the grid of the scan.
        affine: of that grid, voxel -> RAS+ mm.
        form: of the scan; None if it is not a NIfTI file: then qform and sform are the affine.

    Example:
        >>> import nibabel, numpy
        >>> write_outline(Path("seg.nii"), numpy.ones((2, 2, 2), "uint8"), numpy.eye(4), None)
        >>> header = nibabel.load("seg.nii").header
        >>> int(header["qform_code"]), int(header["sform_code"])
        (1, 1)
    """
    import nibabel

    large = max(labels.shape) > NIFTI1_SIDE
    # Without an affine, nibabel writes the fields below as they are.
    image = (nibabel.Nifti2Image if large else nibabel.Nifti1Image)(labels, None)
    header = image.header
    if form is None:
        header.set_qform(affine, SCANNER)
        header.set_sform(affine, SCANNER)
        header.set_xyzt_units("mm")
    else:
        header[SIZES][:4] = form.fields[SIZES]
        for name in FIELDS:
            header[name] = form.fields[name]
    save(image, path)
