"""What a recipe may say about reading files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossmod.options import Count, Options


class Limits(Options):
    """What a single scan may take; beyond it a file counts as damaged or hostile."""

    max_voxels: Count = 300_000_000
    """Largest number of voxels of one scan."""
    dicom_seconds: Annotated[float, Field(strict=True, ge=1.0, le=86_400.0)] = 120.0
    """Time limit for reading one DICOM series, in seconds."""
    dicom_memory_gb: Annotated[float, Field(strict=True, ge=0.5, le=1024.0)] = 4.0
    """Address space of the process that reads it, in GB."""


class Intake(Options):
    """What is done with files that are not as they should be; by default they are refused."""

    nonfinite: Literal["refuse", "zero"] = "refuse"
    """NaN and infinite voxels: refuse the scan, or set them to zero."""
    assume_affine: bool = False
    """Accept scans without orientation (qform and sform unset), and read them as NIfTI's oldest
    readers do: voxel axes toward left, front and head, the middle of the grid at the origin."""
    resample_labels: bool = False
    """Resample label maps whose grid differs from that of their scan, instead of refusing them."""
    limits: Limits = Limits()
