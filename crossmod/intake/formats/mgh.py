"""MGH headers of FreeSurfer (surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat)."""

from __future__ import annotations

import numpy as np

from crossmod.intake.formats.header import ImageHeader, not_format, spatial
from crossmod.intake.results import FileFault

FIELDS = np.dtype(
    [
        ("version", ">i4"),
        ("size", ">i4", (3,)),
        ("frames", ">i4"),
        ("type", ">i4"),
        ("dof", ">i4"),
        ("good", ">i2"),
        ("spacing", ">f4", (3,)),
        ("axes", ">f4", (3, 3)),
        ("center", ">f4", (3,)),
    ]
)

BYTES = 284
"""Where the voxels begin."""

TYPES = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}

TAIL = 1 << 24
"""Bytes of parameters and tags that may follow the voxels."""


def parse(block: bytes) -> ImageHeader:
    """Check the first `BYTES` of a file.

    Raises:
        FileFault: it is not MGH, or a field cannot be true or is not of one 3D image.
    """
    if len(block) < BYTES or block[:4] != b"\0\0\0\1":
        raise not_format(block, "MGH")
    raw = np.frombuffer(block[: FIELDS.itemsize], FIELDS)[0]
    if min(raw["size"]) < 1 or raw["frames"] != 1:
        found = " x ".join(map(str, [*raw["size"], raw["frames"]]))
        raise FileFault("dimensions", f"{found} voxels", "one 3D image")
    shape = spatial(tuple(map(int, raw["size"])), "dimensions")
    if int(raw["type"]) not in TYPES:
        raise FileFault("type", str(raw["type"]), "real numbers")
    if raw["good"] != 1:
        raise FileFault(
            "goodRASFlag",
            f"{raw['good']}: the orientation is unknown",
            "1",
            "convert it again from its source",
        )
    numbers = np.concatenate([raw["spacing"], raw["axes"].ravel(), raw["center"]])
    if not np.isfinite(numbers).all() or not (raw["spacing"] > 0).all():
        raise FileFault("spacing", f"{raw['spacing'].tolist()} mm", "three lengths above 0")
    affine = np.eye(4)
    affine[:3, :3] = raw["axes"].T.astype(np.float64) * raw["spacing"].astype(np.float64)
    affine[:3, 3] = raw["center"] - affine[:3, :3] @ (np.array(shape) / 2)
    return ImageHeader(shape, np.dtype(TYPES[int(raw["type"])]), BYTES, affine, tail=TAIL)
