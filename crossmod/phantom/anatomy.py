"""The head template, and where the voxels of a patient's scan lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
Box = tuple[slice, slice, slice]

ANATOMY = Path(__file__).parents[1] / "anatomy"
TEMPLATE_ORIGIN_MM = np.array([-92.0, -128.0, -64.0])
"""Center of voxel (0, 0, 0) in MNI mm; voxels are 1 mm along R, A, S."""
VIEW_CENTER_MM = np.array([0.0, -18.0, -36.0])
"""The middle of every field of view, MNI mm: a little above the internal auditory canals."""
WARP_MM = np.float32(1.7)
"""Standard deviation of the smooth warp along each axis."""
WARP_MARGIN_MM = 9.0
"""The smooth warp moves a point by less than this."""


@dataclass(frozen=True)
class Frame:
    """The grid of one scan and its pose in the template.

    Attributes:
        shape: voxels ``(I, J, K)`` along R, A, S of the patient.
        spacing_mm: voxel size ``(3,)``.
        pose: ``(3, 3)``, patient mm -> template mm.
        center_mm: ``(3,)``, template position of the middle of the grid.
    """

    shape: tuple[int, int, int]
    spacing_mm: NDArray[np.float64]
    pose: NDArray[np.float64]
    center_mm: NDArray[np.float64]

    @property
    def voxel_mm(self) -> float:
        """Edge of the cube of a voxel's volume."""
        return float(np.cbrt(np.prod(self.spacing_mm)))

    def axes_mm(self) -> list[FloatArray]:
        """Voxel positions along I, J and K, mm from the middle of the grid."""
        return [
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing_mm, strict=True)
        ]

    def box(self, points_mm: NDArray[np.float64], margin_mm: float) -> Box:
        """The voxels within a margin of template points ``(n, 3)``, wherever the warp puts them."""
        patient_mm = (points_mm - self.center_mm) @ np.linalg.inv(self.pose).T
        index = patient_mm / self.spacing_mm + (np.array(self.shape) - 1) / 2
        margin = (margin_mm + WARP_MARGIN_MM) / self.spacing_mm
        low = np.clip(np.floor(index.min(axis=0) - margin), 0, None).astype(int)
        high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, 0, self.shape).astype(int)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return i, j, k


@cache
def template(modality: str) -> ByteArray:
    """The template slab of one modality ("t1" or "t2"), sharpened, uint8 ``(185, 221, 64)``.

    Averaging 152 people has blurred it. An unsharp mask gives back edges; values under the level
    of air go to zero, which removes the haze around the head.
    """
    image = nibabel.load(ANATOMY / f"icbm2009c_posterior_fossa_{modality}.nii.gz")
    values = np.asarray(image.dataobj).astype(np.float32)
    for sigma, amount in ((3.0, 0.3), (1.2, 1.0)):
        values += amount * (values - gaussian_filter(values, sigma))
    rescaled = (values - 14.0) * (255.0 / 241.0)
    return np.asarray(np.clip(np.rint(rescaled), 0, 255), dtype=np.uint8)


def draw_frame(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Frame:
    """Draw how a patient lies and how large the head is: scale +-6 %, tilt +-3 deg, yaw +-5 deg."""
    scale = rng.uniform(0.96, 1.04) * rng.uniform(0.98, 1.02, size=3)
    angles = rng.uniform(-1, 1, size=3) * (3.0, 3.0, 5.0)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    shift = rng.uniform(-1, 1, size=3) * (4.0, 5.0, 2.0)
    pose = rotation / scale[:, None]
    return Frame(shape, np.array(spacing_mm), pose, VIEW_CENTER_MM + shift)


def template_positions(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """Template mm of every voxel, ``(3, I, J, K)``: the pose and a smooth warp."""
    axes = frame.axes_mm()
    warp = smooth_field(rng, axes, scale_mm=28.0, fields=3)
    pose = frame.pose.astype(np.float32)
    for row in range(3):
        warp[row] *= WARP_MM
        warp[row] += pose[row, 0] * axes[0][:, None, None]
        warp[row] += pose[row, 1] * axes[1][:, None]
        warp[row] += pose[row, 2] * axes[2] + np.float32(frame.center_mm[row])
    return warp


def smooth_field(
    rng: np.random.Generator, axes_mm: list[FloatArray], *, scale_mm: float, fields: int
) -> FloatArray:
    """Random cubic-spline fields on a grid, mean 0, standard deviation about 1.

    Args:
        rng: source of the control values.
        axes_mm: voxel positions along each axis.
        scale_mm: distance between control points.
        fields: how many independent fields.

    Returns:
        ``(fields, I, J, K)``.
    """
    bases = [_spline_basis(axis, scale_mm) for axis in axes_mm]
    control = rng.standard_normal((fields, *(basis.shape[1] for basis in bases)))
    field: FloatArray = control.astype(np.float32)
    for axis, basis in enumerate(bases, start=1):
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    # A cubic spline of unit-variance control values keeps 0.48 of the variance per axis.
    return np.asarray(np.ascontiguousarray(field) / np.float32(0.48**1.5))


def _spline_basis(axis_mm: FloatArray, scale_mm: float) -> FloatArray:
    """Weights ``(n, controls)`` of a uniform cubic B-spline at positions ``axis_mm`` ``(n,)``."""
    position = (axis_mm - axis_mm[0]) / scale_mm + 1.0
    controls = np.arange(int(position[-1]) + 3)
    distance = np.abs(position[:, None] - controls)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.asarray(np.where(distance < 1, near, far), dtype=np.float32)


def sample(values: FloatArray, positions_mm: FloatArray) -> FloatArray:
    """Template-grid values at template positions ``(3, I, J, K)``, linearly interpolated."""
    index = positions_mm - TEMPLATE_ORIGIN_MM.astype(np.float32)[:, None, None, None]
    result: FloatArray = map_coordinates(
        values, index, output=np.float32, order=1, mode="nearest", prefilter=False
    )
    return result
