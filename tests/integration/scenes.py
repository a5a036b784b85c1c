"""A scene in world space, sampled on any grid: a dark head with one bright tumor."""

from __future__ import annotations

import locale
from pathlib import Path
from uuid import uuid4

import nibabel
import numpy as np
import SimpleITK
from scipy.spatial.transform import Rotation

HEAD_MM, TUMOR_MM = 40.0, 8.0
TUMOR_AT = np.array([12.0, -7.0, 5.0])  # to the right, back and up of the middle, RAS


def world(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS+ mm of every voxel center, ``(3, I, J, K)``."""
    voxels = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ voxels + affine[:3, 3:]).reshape(3, *shape)


def depth_mm(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How deep in the tumor a voxel center lies; negative outside."""
    return TUMOR_MM - np.linalg.norm(world(affine, shape) - TUMOR_AT[:, None, None, None], axis=0)


def scene(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What a scanner with this grid would see, int16; no axis of it is symmetric."""
    place = world(affine, shape)
    radius = np.linalg.norm(place, axis=0)
    head = np.clip(HEAD_MM - radius, 0, 1) * (300 + 2 * place[0] + place[1] + 0.5 * place[2])
    inside = np.clip(depth_mm(affine, shape) + 0.5, 0, 1)
    return np.round(head * (1 - inside) + 1000 * inside).astype(np.int16)


def centered(spacing_mm: tuple[float, ...], shape: tuple[int, ...], turn=(0.0, 0.0, 0.0)):
    """An affine whose grid is turned by degrees about x, y, z around the middle of the world."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * spacing_mm
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def write_dicom(folder: Path, data: np.ndarray, affine: np.ndarray, series: str = "1") -> Path:
    """Write ``(I, J, K)`` int16 data as one file for each K, last slice first."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0])
    axes = lps @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    directions = axes / spacing
    before = locale.setlocale(locale.LC_ALL)
    for number, k in enumerate(reversed(range(data.shape[2]))):
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data[:, :, k].T))
        image.SetSpacing(spacing[:2].tolist())
        position = lps @ (affine[:3, :3] @ [0, 0, k] + affine[:3, 3])
        tags = {
            "0008|0060": "MR",
            "0008|103e": f"series {series}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.1.{series}",
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.9g}" for value in position),
            "0020|0037": "\\".join(f"{value:.9g}" for value in directions[:, :2].T.ravel()),
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{uuid4().hex}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # writing DICOM sets it to "C"
    return folder
