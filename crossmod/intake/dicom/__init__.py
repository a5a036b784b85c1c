"""DICOM series from outside, and outlines back to DICOM.

Everything is parsed in a child process with a time and a memory limit, which hands over arrays and
geometry only. What it says about a file is the name of the file and of a tag, never the value of
one: besides geometry, unique identifiers and SeriesDescription, no tag leaves the child.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossmod.data.volumes import Affine, LabelArray
from crossmod.intake.dicom.process import require_extra, run_child
from crossmod.intake.options import Limits
from crossmod.intake.results import Loaded

__all__ = ["read_series", "require_extra", "write_seg"]

DEFAULTS = Limits()


def read_series(folder: Path, *, series: str = "", limits: Limits = DEFAULTS) -> Loaded:
    """Read one series of a folder, searched with all folders in it; links are not followed.

    The series may be one file for each slice or enhanced multi-frame files. The axes I, J and K run
    along rows, columns and from slice to slice. Uncompressed DICOM has no checksum: a changed byte
    of a voxel value, or of a tag that stays well-formed, cannot be seen. Missing bytes are.

    Args:
        folder: where the files lie; other files there are passed over.
        series: its SeriesInstanceUID, or a pattern of its SeriesDescription in which ``*`` stands
            for anything and case does not matter; may be empty where there is one series only.
        limits: what the child process may take.

    Returns:
        The scan; its digest is the sha256 over the sorted sha256 of the files, one a line.

    Raises:
        DataError: the series is missing or ambiguous, files are damaged, slices are missing,
            doubled, uneven or unlike each other, or a limit is exceeded.
        MachineError: the extra `dicom` is not installed.
    """
    request = {"series": series, "max_voxels": limits.max_voxels}
    with run_child("read", folder, request, limits) as (room, answer):
        # The child stores slices one after the other, as they come.
        data = np.load(room / "data.npy", allow_pickle=False).T
    return Loaded(
        np.ascontiguousarray(data),
        np.array(answer["affine"], dtype=np.float64),
        answer["digest"],
        tuple(answer["remarks"]),
    )


def write_seg(
    path: Path,
    labels: LabelArray,
    affine: Affine,
    classes: Mapping[str, int],
    *,
    folder: Path,
    series: str = "",
    title: str = "",
    limits: Limits = DEFAULTS,
) -> None:
    """Write a label map of a series as a DICOM segmentation object that refers to its slices.

    The object names the patient as its source does: the standard demands it.

    Args:
        path: the file to write.
        labels: ``(I, J, K)`` on the grid that `read_series` gives.
        affine: that grid, voxel -> RAS+ mm.
        classes: name of each segment, in order -> its value in ``labels``.
        folder: where the series lies.
        series: which one, as for `read_series`.
        title: the name of the model that made the outlines.
        limits: what the child process may take.

    Raises:
        DataError: the series is not the one that was outlined, or lacks what the standard demands
            of the source of a segmentation.
        MachineError: the extra `dicom` is not installed, or the file cannot be written.
    """
    request = {
        "series": series,
        "max_voxels": limits.max_voxels,
        "path": str(path.absolute()),
        "affine": affine.tolist(),
        "classes": dict(classes),
        "title": title,
    }
    with run_child("seg", folder, request, limits, labels):
        pass  # the file is all there is
