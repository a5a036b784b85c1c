"""DICOM series, read slice by slice with GDCM; the geometry comes from the tags of every slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmod.data import Affine, FloatArray
from crossmod.errors import DataError

UNEVEN = 0.01
"""Share of the slice distance by which gaps may differ."""

SAME_MM = 1e-3
"""Slices no further apart than this have the same position."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

POSITION, ORIENTATION, SPACING = "0020|0032", "0020|0037", "0028|0030"
DESCRIPTION = "0008|103e"


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header of one slice says.

    Attributes:
        file: where it is.
        position_mm: center of the first voxel, LPS.
        row, column: unit vectors along a row and along a column, LPS.
        spacing_mm: distance of voxels along a row and along a column.
        size: voxels along a row and along a column.
    """

    file: Path
    position_mm: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice."""
        return np.cross(self.row, self.column)

    @property
    def height_mm(self) -> float:
        """Where the slice lies along its normal."""
        return float(self.position_mm @ self.normal)


def read_series(folder: Path) -> tuple[FloatArray, Affine]:
    """Data ``(I, J, K)`` and voxel -> RAS+ mm of the one series in a folder.

    Raises:
        DataError: no series or several, or slices that are damaged, missing, doubled, unevenly
            spaced or unlike each other.
    """
    import SimpleITK as sitk

    with _reading(folder):
        slices = sorted(_slices(folder), key=lambda one: one.height_mm)
        step_mm = _step_mm(slices, str(folder))
        reader = sitk.ImageSeriesReader()
        reader.SetOutputPixelType(sitk.sitkFloat32)  # the first slice's type may be too narrow
        reader.SetFileNames([str(one.file) for one in slices])
        data = sitk.GetArrayFromImage(reader.Execute())
    if data.ndim != 3:
        raise DataError("has colored voxels", where=str(folder), allowed="gray values")
    return np.ascontiguousarray(data.T), _affine(slices[0], step_mm)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """GDCM's errors as ours; its remarks on odd tags stay out of the terminal."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"cannot be read as DICOM: {reason}", where=str(folder)) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _slices(folder: Path) -> list[Slice]:
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise DataError("holds neither NIfTI files nor a DICOM series", where=str(folder))
    files = {
        uid: [
            Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        ]
        for uid in series
    }
    if len(files) > 1:
        found = [f"  {uid}: {len(f)} files, {_description(f[0])}" for uid, f in files.items()]
        raise DataError(
            "\n".join([f"holds {len(files)} series:", *found]),
            where=str(folder),
            fix="put each series into a folder of its own",
        )
    known = files[series[0]]
    lost = sorted(file.name for file in _dicom_files(folder) - set(known))
    if lost:  # GDCM passes over them in silence
        raise DataError(
            f"has DICOM files that are damaged or no images: {', '.join(lost)}",
            where=str(folder),
            fix="copy them again, or move what is no slice away",
        )
    return [_slice(file) for file in known]


def _dicom_files(folder: Path) -> set[Path]:
    """The files that begin as DICOM does, but for an index."""
    found = set()
    for path in folder.iterdir():
        if path.is_file() and path.name != "DICOMDIR":
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    found.add(path)
    return found


def _header(file: Path) -> dict[str, str]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()
    tags = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    return {**tags, "size": "\\".join(map(str, reader.GetSize()))}


def _description(file: Path) -> str:
    try:
        return _header(file).get(DESCRIPTION) or "no description"
    except RuntimeError:  # reports and the like
        return "no image"


def _slice(file: Path) -> Slice:
    tags = _header(file)
    size = _numbers(tags, "size", file)
    if len([n for n in size if n > 1]) != 2:
        raise DataError(
            f"has {' x '.join(f'{n:g}' for n in size)} voxels",
            where=str(file),
            allowed="files of one slice",
            fix="convert multi-frame files to NIfTI first",
        )
    orientation = _numbers(tags, ORIENTATION, file, 6)
    spacing = _numbers(tags, SPACING, file, 2)
    return Slice(
        file,
        _numbers(tags, POSITION, file, 3),
        orientation[:3],
        orientation[3:],
        (float(spacing[1]), float(spacing[0])),  # DICOM names the distance of rows first
        (int(size[0]), int(size[1])),
    )


def _numbers(tags: dict[str, str], key: str, file: Path, count: int = 0) -> NDArray[np.float64]:
    try:
        found = np.array([float(part) for part in tags[key].split("\\")])
    except (KeyError, ValueError):
        found = np.array([])
    if not found.size or (count and found.size != count) or not np.isfinite(found).all():
        raise DataError(f"has no usable tag ({key.replace('|', ',')})", where=str(file))
    return found


def _step_mm(slices: Sequence[Slice], where: str) -> float:
    """The distance of slices, in order along their normal.

    Raises:
        DataError: it is not the same everywhere, or the slices are no stack.
    """
    first = slices[0]
    if len(slices) < 2:
        raise DataError("holds a single slice", where=where, allowed="a 3D image")
    for one in slices[1:]:
        if one.size != first.size or not np.allclose(_frame(one), _frame(first), atol=1e-4):
            raise DataError(
                f"size, spacing or orientation of {one.file.name} and {first.file.name} differ",
                where=where,
                fix="remove what does not belong to the stack, such as a scout",
            )
    heights = np.array([one.height_mm for one in slices])
    gaps = np.diff(heights)
    apart = gaps[gaps > SAME_MM]
    step = float(np.median(apart)) if apart.size else 0.0
    odd = np.flatnonzero((np.abs(gaps - step) > UNEVEN * step) | (gaps <= SAME_MM))
    if odd.size:
        found = [_gap(heights[i], heights[i + 1], step) for i in odd]
        raise DataError("\n".join(["its slices are not evenly spaced:", *found]), where=where)
    drift = np.array([one.position_mm - first.position_mm for one in slices])
    drift -= np.outer(heights - heights[0], first.normal)
    if np.abs(drift).max() > UNEVEN * step:
        raise DataError("its slices are shifted sideways (a tilted gantry?)", where=where)
    return step


def _frame(one: Slice) -> NDArray[np.float64]:
    return np.concatenate([one.row, one.column, one.spacing_mm])


def _gap(low_mm: float, high_mm: float, step_mm: float) -> str:
    gap = high_mm - low_mm
    if gap <= SAME_MM:
        what = "twice the same position"
    elif gap > 1.5 * step_mm:
        what = "slices are missing"
    else:
        what = "uneven"
    return f"  {low_mm:.2f} to {high_mm:.2f} mm: {what} (elsewhere {step_mm:.2f} mm apart)"


def _affine(first: Slice, step_mm: float) -> Affine:
    """Voxel -> RAS+ mm; NIfTI turns the first two axes of DICOM's LPS."""
    affine = np.eye(4)
    axes = (first.row * first.spacing_mm[0], first.column * first.spacing_mm[1],
            first.normal * step_mm)  # fmt: skip
    affine[:3, :3] = LPS_TO_RAS @ np.column_stack(axes)
    affine[:3, 3] = LPS_TO_RAS @ first.position_mm
    return affine
