"""What a recipe may say about reading files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossmod.options import Count, Options


class Limits(Options):
    """What a single scan may take; beyond it a file counts as damaged or hostile."""

    max_voxels: Count = 300_000_000
    """Voxels of one scan."""
    dicom_seconds: Annotated[float, Field(strict=True, ge=1.0, le=86_400.0)] = 120.0
    """Time to read one DICOM series, in a process of its own."""
    dicom_memory_gb: Annotated[float, Field(strict=True, ge=0.5, le=1024.0)] = 4.0
    """Address space of that process."""


class Intake(Options):
    """What is done with files that are not as they should be; by default they are refused."""

    nonfinite: Literal["refuse", "zero"] = "refuse"
    """Voxels that are NaN or infinite: refuse the scan, or set them to zero."""
    assume_affine: bool = False
    """Take scans that do not say how they lie (qform and sform unset) as NIfTI's oldest readers do:
    voxel axes toward left, front and head, the middle of the grid at the origin."""
    resample_labels: bool = False
    """Resample label maps that lie on another grid than their scan, instead of refusing them."""
    limits: Limits = Limits()
