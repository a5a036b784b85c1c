"""Corrected copies of files, where correcting is safe: the voxels keep their bits or their meaning.

A tiny shear, float noise between a label map and its scan, labels that are whole but for rounding,
content that its name contradicts.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.data import Affine
from crossmod.entries import write_file
from crossmod.intake.facts import Facts
from crossmod.intake.geometry import straightened
from crossmod.intake.nifti import whole
from crossmod.intake.options import Limits
from crossmod.intake.payload import Payload, read_payload, values_of

UINT8 = 2
"""NIfTI's code of the type."""


@dataclass
class Mended:
    """A file on its way to being corrected.

    Attributes:
        payload: what it holds.
        raw: its header, changed as needed.
        voxels: its voxels as bytes, changed as needed.
        changes: what was changed.
    """

    payload: Payload
    raw: Any
    voxels: bytes
    changes: list[str]

    @classmethod
    def of(cls, path: Path, limits: Limits) -> Mended:
        """Read a file.

        Raises:
            FileFault: it is damaged.
        """
        payload = read_payload(path, limits)
        return cls(payload, payload.header.raw.copy(), payload.voxels.tobytes(), [])

    def straighten(self) -> None:
        """Make the axes of the sform perpendicular."""
        sform = self.payload.header.sform
        if sform is not None:
            straight, remarks = straightened(sform, "sform")
            if remarks:
                self._place(straight)
                self.changes += remarks

    def move_to(self, affine: Affine) -> None:
        """Give it the affine of its scan, from which it differs by float noise."""
        self._place(affine)
        self.changes.append("affine: set to that of its scan")

    def round(self) -> None:
        """Make labels whole numbers of eight bits."""
        labels, remarks = whole(values_of(self.payload))
        if remarks:
            self.voxels = labels.tobytes(order="F")
            self.raw["datatype"], self.raw["bitpix"] = UINT8, 8
            self.raw["scl_slope"], self.raw["scl_inter"] = 1, 0
            self.changes += remarks

    def fit_name(self, path: Path) -> None:
        """Note where the content is not what the name says; it is written as the name says."""
        if self.payload.gzipped != (path.suffix == ".gz"):
            self.changes.append("content: written as the name says")

    def write(self, path: Path) -> None:
        """Write it, compressed if its name says so.

        Raises:
            OSError: the disk is full, for instance.
        """
        least = self.raw.dtype.itemsize + 4
        if self.payload.header.offset > least:
            self.changes.append("header: extensions are dropped")
        self.raw["vox_offset"] = least
        content = self.raw.tobytes() + bytes(4) + self.voxels
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)

    def _place(self, affine: Affine) -> None:
        rows = affine[:3] / self.payload.header.unit_mm
        self.raw["srow_x"], self.raw["srow_y"], self.raw["srow_z"] = rows
        self.raw["sform_code"] = max(int(self.raw["sform_code"]), 1)
        self.raw["qform_code"] = 0


def mend(path: Path, facts: Facts, copy: Path, scan: Facts | None) -> list[str]:
    """Write a corrected copy of a file that passed the intake, if anything can be corrected.

    Args:
        path: the file.
        facts: what is known of it.
        copy: the file to write.
        scan: of a label map, what is known of its scan.

    Returns:
        What was changed; empty if nothing was written.
    """
    moved = scan is not None and scan.affine != facts.affine
    if path.is_dir() or not (facts.remarks or moved):
        return []
    file = Mended.of(path, Limits())
    file.straighten()
    if facts.kind == "labels":
        file.round()
    if scan is not None and moved:
        file.move_to(np.array(scan.affine))
    file.fit_name(copy)
    if file.changes:
        file.write(copy)
    return file.changes
