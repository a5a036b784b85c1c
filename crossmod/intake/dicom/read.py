"""Read one series: choose it, order its slices, decode its voxels. Runs in the child process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossmod.errors import DataError
from crossmod.files.digests import digest_of_bytes
from crossmod.intake.dicom.files import parse, parsing, read_tags, silence
from crossmod.intake.dicom.frames import Frame, frames_of
from crossmod.intake.dicom.pixels import values
from crossmod.intake.dicom.process import writing
from crossmod.intake.dicom.series import Series, find_series
from crossmod.intake.dicom.stack import Stack, stack


def read(folder: Path, wanted: str, max_voxels: int, room: Path) -> dict[str, Any]:
    """Write the voxels of a series to ``room / "data.npy"``, float32 ``(K, J, I)``.

    Returns:
        Affine, digest and remarks.

    Raises:
        DataError: there is no such series, or it is not one that can be trusted.
        MachineError: the voxels do not fit there.
    """
    silence()
    series, remarks = find_series(folder, wanted)
    found = tagged(folder, series, max_voxels)
    if any(one.inverted for one in found.frames):
        remarks.append("viewers show it inverted (MONOCHROME1); values are taken as stored")
    columns, rows = found.frames[0].size
    data = np.empty((len(found.frames), rows, columns), np.float32)
    digest = _fill(data, folder, series, found.frames)
    with writing(room / "data.npy") as path:
        np.save(path, data, allow_pickle=False)
    return {"affine": found.affine.tolist(), "digest": digest, "remarks": remarks}


def tagged(folder: Path, series: Series, max_voxels: int) -> Stack:
    """The slices of a series, from the tags of its files alone.

    Raises:
        DataError: they are no stack, or of more voxels than allowed.
    """
    frames: list[Frame] = []
    for name in series.files:
        with parsing(name):
            frames += frames_of(read_tags(folder, name), name)
    voxels = sum(one.size[0] * one.size[1] for one in frames)
    if voxels > max_voxels:
        raise DataError(
            f"has {voxels} voxels",
            allowed=f"intake.limits.max_voxels = {max_voxels}",
            fix="only a recipe can allow more",
        )
    return stack(frames)


def _fill(
    data: np.ndarray[Any, np.dtype[np.float32]],
    folder: Path,
    series: Series,
    frames: Sequence[Frame],
) -> str:
    """Put every frame in its place; returns the digest of the files."""
    places = {(one.file, one.index): k for k, one in enumerate(frames)}
    digests = []
    for name in series.files:
        with parsing(name):
            content = (folder / name).read_bytes()
            digests.append(digest_of_bytes(content))
            dataset = parse(content, name)
            found = frames_of(dataset, name)
            if any(one != frames[places[name, one.index]] for one in found):
                raise DataError("changed while it was read", where=name)
            for one, slice_ in zip(found, values(dataset, found), strict=True):
                data[places[name, one.index]] = slice_
    return digest_of_bytes("\n".join(sorted(digests)))
