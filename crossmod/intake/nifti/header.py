"""NIfTI headers, parsed and weighed before anything is allocated.

Layout: nifti.nimh.nih.gov, nifti1.h and nifti2.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.data.volumes import Affine
from crossmod.intake.results import FileFault

MM_OF = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI's code of the spatial unit -> mm; without a unit, millimeters are meant."""

NUMBERS = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip
"""NIfTI's code of a type of real numbers -> numpy's."""

PLACES = range(6)
"""NIfTI's codes of what an affine refers to: nothing, the scanner, another scan, or an atlas."""

OTHERS = {
    0: "unknown", 1: "binary", 32: "complex64", 128: "RGB", 1536: "float128",
    1792: "complex128", 2048: "complex256", 2304: "RGBA",
}  # fmt: skip

LONGEST = 544
"""Bytes that hold the header of any version and say whether extensions follow."""


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of a NIfTI file says, checked field by field.

    Attributes:
        raw: all fields by nifti1.h's or nifti2.h's names.
        shape: voxels ``(I, J, K)``.
        kind: type of the voxels as stored, with byte order.
        offset: byte at which the voxels begin.
        pixdim_mm: voxel size along I, J, K; above 0.
        unit_mm: the file's spatial unit.
        remarks: what was odd and could be mended.
    """

    raw: Any
    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    offset: int
    pixdim_mm: NDArray[np.float64]
    unit_mm: float
    remarks: tuple[str, ...]

    @property
    def voxel_bytes(self) -> int:
        """How many bytes the voxels take in the file."""
        return math.prod(self.shape) * self.kind.itemsize

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept of the voxels; 1 and 0 where they are the values."""
        slope, inter = float(self.raw["scl_slope"]), float(self.raw["scl_inter"])
        return (1, 0) if slope == 0 or math.isnan(slope) else (slope, inter)

    @property
    def is_scaled(self) -> bool:
        """Whether the voxels are other numbers than those stored."""
        return self.scaling != (1, 0)

    @property
    def sform(self) -> Affine | None:
        """Voxel -> RAS+ mm by the rows of the affine, if the file uses them."""
        if not self.raw["sform_code"]:
            return None
        rows = [self.raw[name] for name in ("srow_x", "srow_y", "srow_z")]
        return self._in_mm(np.vstack([*rows, [0, 0, 0, 1]]))

    @property
    def qform(self) -> Affine | None:
        """Voxel -> RAS+ mm by the rotation, if the file uses it.

        Raises:
            FileFault: the numbers are not a rotation.
        """
        if not self.raw["qform_code"]:
            return None
        from nibabel.quaternions import quat2mat

        flip = float(self.raw["pixdim"][0]) or 1.0
        if abs(flip) != 1:
            raise FileFault("pixdim[0]", f"{flip:g}", "1 or -1, which turns the third axis around")
        xyz = np.array([self.raw[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
        rest = 1 - float(xyz @ xyz)
        if not rest >= -1e-5:  # single precision leaves it a little below 0
            raise FileFault("qform", f"quaternion {xyz.tolist()}", "a rotation")
        noise = 3 * np.finfo(self.raw["quatern_b"].dtype).eps
        first = math.sqrt(rest) if rest > noise else 0.0
        affine = np.eye(4)
        affine[:3, :3] = quat2mat([first, *xyz]) * self.pixdim_mm * [1, 1, flip]
        offset = np.array([self.raw[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
        affine[:3, 3] = offset * self.unit_mm
        return affine

    def _in_mm(self, affine: NDArray[np.generic]) -> Affine:
        scaled = np.array(affine, dtype=np.float64)
        scaled[:3] *= self.unit_mm
        return scaled


def parse_header(block: bytes) -> Header:
    """Check the first bytes of a file, at most `LONGEST`, as a NIfTI header.

    Raises:
        FileFault: not NIfTI, or a field that cannot be true.
    """
    raw, least = _fields(block)
    shape = _shape(raw)
    unit_mm = MM_OF.get(int(raw["xyzt_units"]) & 7)
    if unit_mm is None:
        raise FileFault("xyzt_units", str(int(raw["xyzt_units"])), "meters, millimeters or microns")
    pixdim = raw["pixdim"][1:4].astype(np.float64)
    if not np.isfinite(pixdim).all() or not pixdim.all():
        found = " x ".join(f"{size:g}" for size in pixdim)
        raise FileFault("pixdim", f"voxels of {found} mm", "three lengths above 0")
    remarks = ["pixdim: negative voxel size; using its absolute value"] * bool(pixdim.min() < 0)
    _check_scaling(raw)
    for field in ("sform_code", "qform_code"):
        if raw[field] not in PLACES:
            raise FileFault(field, str(raw[field]), f"0 to {PLACES[-1]}")
    return Header(
        raw, shape, _kind(raw), _offset(raw, least), abs(pixdim) * unit_mm, unit_mm, tuple(remarks)
    )


def _fields(block: bytes) -> tuple[Any, int]:
    """All fields by name, and the first byte at which voxels may begin."""
    from nibabel import nifti1, nifti2

    size = block[:4]
    for order, name in (("<", "little"), (">", "big")):
        for layout, least in ((nifti1.header_dtype, 352), (nifti2.header_dtype, 544)):
            length = layout.itemsize
            if int.from_bytes(size, name) == length:  # type: ignore[arg-type]
                if len(block) < length:
                    raise FileFault("size", f"truncated: {len(block)} of {least} bytes")
                raw = np.frombuffer(block[:length], layout.newbyteorder(order))[0]
                _check_magic(block, length)
                return raw, least
    shown = block[:16].decode("ascii", "replace").replace("\ufffd", ".")
    printable = "".join(c if c.isprintable() else "." for c in shown)
    raise FileFault(
        "header",
        f"not NIfTI; the file begins with '{printable}'" if block else "the file is empty",
        "a NIfTI-1 or NIfTI-2 file",
    )


def _check_magic(block: bytes, length: int) -> None:
    magic, expected = (
        (block[344:348], b"n+1\0") if length == 348 else (block[4:12], b"n+2\0\r\n\x1a\n")
    )
    if magic == expected:
        return
    if magic[:2] == b"ni":
        fix = "join header and image into one .nii.gz file"
        raise FileFault("magic", "the header of a pair .hdr and .img", "one file", fix)
    raise FileFault("magic", repr(magic)[1:], repr(expected)[1:], "Analyze files have no geometry")


def _shape(raw: Any) -> tuple[int, int, int]:
    count = int(raw["dim"][0])
    if not 1 <= count <= 7:
        raise FileFault("dim", f"{count} dimensions", "3")
    shape = [int(n) for n in raw["dim"][1 : 1 + count]]
    found = " x ".join(map(str, shape))
    if min(shape) < 1:
        raise FileFault("dim", f"{found} voxels", "at least 1 along each axis")
    if len(shape) < 3 or min(shape[:3]) < 2 or max(shape[3:], default=1) > 1:
        fix = "split it into one file for each volume" if max(shape[3:], default=1) > 1 else ""
        raise FileFault("dim", f"{found} voxels", "one 3D image", fix)
    return shape[0], shape[1], shape[2]


def _kind(raw: Any) -> np.dtype[Any]:
    code, bits = int(raw["datatype"]), int(raw["bitpix"])
    if code not in NUMBERS:
        raise FileFault("datatype", f"{code} ({OTHERS.get(code, 'unknown')})", "real numbers")
    kind = np.dtype(NUMBERS[code])
    if bits != 8 * kind.itemsize:
        raise FileFault("bitpix", str(bits), f"{8 * kind.itemsize}, as datatype {kind.name} has")
    return kind.newbyteorder(raw.dtype["dim"].base.byteorder)


def _offset(raw: Any, least: int) -> int:
    offset = float(raw["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise FileFault("vox_offset", f"{offset:g}", f"a whole number from {least}")
    return int(offset)


def _check_scaling(raw: Any) -> None:
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if math.isinf(slope):
        raise FileFault("scl_slope", str(slope), "a finite number")
    if slope and not math.isnan(slope) and not math.isfinite(inter):
        raise FileFault("scl_inter", str(inter), "a finite number")
