"""Read one series: choose it, order its slices, decode its voxels. Runs in the child process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmod.errors import DataError, MachineError, with_extra
from crossmod.files.digests import digest_of_bytes
from crossmod.intake.dicom.files import parse, parsing, read_tags, silence
from crossmod.intake.dicom.frames import Frame, frames_of
from crossmod.intake.dicom.process import temporary
from crossmod.intake.dicom.series import Series, find_series
from crossmod.intake.dicom.stack import Stack, stack
from crossmod.intake.dicom.tags import tag_name, uid_of, unusable, value_of, whole

ENDS = b"\xff\xd9"
"""The last bytes of a JPEG, JPEG-LS or JPEG 2000 image."""

PADDING = b"\x00\xff"
"""What stands after them to make lengths even."""


def read(folder: Path, wanted: str, max_voxels: int, room: Path) -> dict[str, Any]:
    """Write the voxels of a series to ``room / "data.npy"``, float32 ``(K, J, I)``.

    Returns:
        Affine, digest and remarks.

    Raises:
        DataError: the series does not exist or cannot be trusted.
        MachineError: the voxels do not fit there.
    """
    silence()
    series, remarks = find_series(folder, wanted)
    found = tagged(folder, series, max_voxels)
    if any(one.inverted for one in found.frames):
        remarks.append("viewers show it inverted (MONOCHROME1); values are kept as stored")
    columns, rows = found.frames[0].size
    data = np.empty((len(found.frames), rows, columns), np.float32)
    digest = _fill(data, folder, series, found.frames)
    with temporary(room / "data.npy") as path:
        np.save(path, data, allow_pickle=False)
    return {"affine": found.affine.tolist(), "digest": digest, "remarks": remarks}


def tagged(folder: Path, series: Series, max_voxels: int) -> Stack:
    """The slices of a series, from the tags of its files alone.

    Raises:
        DataError: they do not form a stack, or hold more voxels than allowed.
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


def values(dataset: Any, frames: Sequence[Frame]) -> Iterator[NDArray[np.float32]]:
    """The values meant, float32 ``(rows, columns)``, for each frame of a file in its order.

    Raises:
        DataError: voxels are missing or cannot be decoded.
        MachineError: nothing that is installed decodes them.
    """
    file = frames[0].file
    decoder = _decoder(dataset, file)
    whole(dataset, "BitsAllocated", file, (8, 16, 32))
    if decoder.is_encapsulated:
        _check_encapsulated(dataset, len(frames), file)
    else:
        _check_length(dataset, frames, file)
    with parsing(file):
        decoded = decoder.iter_array(dataset, raw=True)
        for frame, (stored, _) in zip(frames, decoded, strict=True):
            if stored.shape != frame.size[::-1]:
                raise unusable("PixelData", file)
            meant = stored.astype(np.float64) * frame.slope + frame.intercept
            yield meant.astype(np.float32)


def _decoder(dataset: Any, file: str) -> Any:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    syntax = UID(uid_of(dataset.file_meta, "TransferSyntaxUID", file))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"uses the transfer syntax {syntax}, which no known decoder reads", where=file
        ) from None
    if not decoder.is_available:
        raise MachineError(
            f"is compressed as {syntax.name} ({syntax}), which no installed decoder reads",
            where=file,
            fix=f"decompress it with another program, or {with_extra('dicom')}",
        )
    return decoder


def _check_length(dataset: Any, frames: Sequence[Frame], file: str) -> None:
    """Uncompressed voxels must be there to the byte; a missing end would move slices.

    Some programs fill up the end of a slice with zeros. Less than a row of them hides nothing.
    """
    bits = whole(dataset, "BitsAllocated", file)
    columns, rows = frames[0].size
    row = columns * bits // 8
    expected = len(frames) * rows * row
    found = value_of(dataset, "PixelData", file)
    surplus = found[expected:]
    padded = len(frames) == 1 and len(surplus) < row and not surplus.strip(b"\0")
    if len(found) < expected or not (padded or len(surplus) <= expected % 2):
        raise DataError(
            f"{tag_name('PixelData')} has {len(found)} bytes", where=file, allowed=f"{expected}"
        )


def _check_encapsulated(dataset: Any, count: int, file: str) -> None:
    """Decoders fill what is missing of an image; each must be there to its end."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    with parsing(file):
        images = list(generate_frames(dataset.PixelData, number_of_frames=count))
    if len(images) != count:
        raise DataError(
            f"{tag_name('PixelData')} holds {len(images)} images", where=file, allowed=f"{count}"
        )
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return  # its decoder counts
    cut = [str(n) for n, image in enumerate(images, 1) if not image.rstrip(PADDING).endswith(ENDS)]
    if cut:
        raise DataError(f"the images of frame {', '.join(cut)} are cut short", where=file)
