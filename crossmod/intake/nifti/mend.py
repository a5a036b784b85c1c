"""Corrected copies of files, where correcting is safe: the voxels keep their bits or their meaning.

A tiny shear, float noise between a label map and its scan, labels that are whole but for rounding,
content that its name contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.folder import NIFTI
from crossmod.data.volumes import Affine
from crossmod.files.packed import created, named_as_gzip
from crossmod.intake.facts import Facts
from crossmod.intake.formats.read import naming
from crossmod.intake.labels import SAME_VOXELS, difference, whole
from crossmod.intake.nifti.geometry import corner_distance, straightened
from crossmod.intake.nifti.header import Header
from crossmod.intake.nifti.read import read_payload
from crossmod.intake.options import Limits
from crossmod.intake.payload import Payload, slabs
from crossmod.intake.results import FileFault

UINT8 = 2
"""NIfTI's code of the type."""


@dataclass
class Mended:
    """A file on its way to being corrected.

    Attributes:
        payload: what it holds.
        raw: its header, changed as needed.
        voxels: its voxels in the order of the file, ``(N,)``, changed as needed.
        changes: what was changed.
    """

    payload: Payload[Header]
    raw: Any
    voxels: NDArray[Any]
    changes: list[str]

    @classmethod
    def of(cls, path: Path, limits: Limits) -> Mended:
        """Read a file.

        Raises:
            FileFault: it is damaged.
        """
        payload = read_payload(path, limits)
        return cls(payload, payload.header.raw.copy(), payload.voxels, [])

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
        labels, remarks = whole(self.payload)
        if remarks:
            self.voxels = labels.ravel(order="F")
            self.raw["datatype"], self.raw["bitpix"] = UINT8, 8
            self.raw["scl_slope"], self.raw["scl_inter"] = 1, 0
            self.changes += remarks

    def fit_name(self, path: Path) -> None:
        """Note where the content is not what the name says; it is written as the name says."""
        if self.payload.gzipped != named_as_gzip(path):
            self.changes.append("content: rewritten to match the name")

    def write(self, path: Path) -> None:
        """Write it, compressed if its name says so.

        Raises:
            OSError: the disk is full, for instance.
        """
        least = self.raw.dtype.itemsize + 4
        if self.payload.header.offset > least:
            self.changes.append("header: extensions dropped")
        self.raw["vox_offset"] = least
        with created(path) as file:
            file.write(self.raw.tobytes() + bytes(4))
            for part in slabs(self.voxels):  # what is packed at once is held at once
                file.write(part.data)

    def _place(self, affine: Affine) -> None:
        self._tell_of_qform(affine)
        rows = affine[:3] / self.payload.header.unit_mm
        self.raw["srow_x"], self.raw["srow_y"], self.raw["srow_z"] = rows
        self.raw["sform_code"] = max(int(self.raw["sform_code"]), 1)
        self.raw["qform_code"] = 0

    def _tell_of_qform(self, affine: Affine) -> None:
        """Note that the qform goes, where it said something else and readers may have taken it."""
        header = self.payload.header
        try:
            qform = header.qform if self.raw["qform_code"] else None
        except FileFault as fault:
            self.changes.append(f"qform: unset; it was invalid: {fault.told}")
            return
        if qform is None:
            return
        apart_mm = corner_distance(qform, affine, header.shape)
        if apart_mm > SAME_VOXELS * header.pixdim_mm.min():
            self.changes.append(f"qform: unset; it lay up to {apart_mm:.2g} mm off")


def mend(path: Path, facts: Facts, copy: Path, scan: Facts | None, limits: Limits) -> list[str]:
    """Write a corrected copy of a file that passed the intake, if anything can be corrected.

    At no time this takes more than twice the memory of the voxels as they are stored.

    Args:
        path: the file.
        facts: what is known of it.
        copy: the file to write; its folder exists.
        scan: of a label map, what is known of its scan.
        limits: what a file may take.

    Returns:
        What was changed; empty if nothing was written.

    Raises:
        DataError: the file is another one by now.
        MachineError: memory is short.
        OSError: the copy cannot be written.
    """
    moved = scan is not None and scan.affine != facts.affine
    if scan is not None and difference(facts.grid, scan.grid):
        moved = False  # it lies elsewhere for real
    if not path.name.lower().endswith(NIFTI) or not (facts.remarks or moved):
        return []
    with naming(path):
        file = Mended.of(path, limits)
        file.straighten()
        if facts.kind == "labels":
            file.round()
        if scan is not None and moved:
            file.move_to(np.array(scan.affine))
        file.fit_name(copy)
        if file.changes:
            file.write(copy)
    return file.changes
