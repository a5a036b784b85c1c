"""What is planted in the template: tumor, inner ears with their canals, and enhancing vessels.

Shapes are given in template mm (MNI). A distance is negative inside and positive outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.phantom.anatomy import Box, FloatArray, Frame, smooth_field

Path_mm = NDArray[np.float64]
"""A tube: points with radii, ``(n, 4)``, x y z r in template mm."""

WARP_MARGIN_MM = 8.0
"""The smooth warp moves a point by less than this."""

CANAL = np.array([[25.5, -28.2, -41.0, 2.9], [30.0, -26.4, -41.5, 2.1], [36.5, -23.4, -42.0, 1.8]])
"""Right internal auditory canal, from its mouth in the cistern to its blind end."""
COCHLEA_MM = np.array([38.5, -19.0, -42.0])
VESTIBULE = np.array([[40.0, -25.0, -42.0, 1.4], [42.5, -27.0, -40.5, 1.5]])
BRAIN_WARD = np.array([-0.76, -0.64, 0.05])
"""From the canal mouth away from the petrous bone, unit vector (right side)."""
ALONG_BONE = np.array([0.64, -0.76, 0.0])

MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Vessel:
    """An enhancing tube. Arteries are black on T2 because their blood moves."""

    path: Path_mm
    artery: bool


def _both(points: list[list[float]], *, artery: bool) -> list[Vessel]:
    path = np.array(points)
    return [Vessel(path, artery), Vessel(path * (-1, 1, 1, 1), artery)]


VESSELS = [
    Vessel(np.array([[0.5, -19, -56, 1.5], [-0.5, -15, -44, 1.6], [0, -11, -28, 1.5]]), True),
    *_both([[1, -19, -55, 1.2], [6, -21, -64, 1.3]], artery=True),
    *_both([[28, -14, -54, 2.2], [25, -8, -46, 2.2], [13, 0, -42, 2.2], [13, 4, -28, 2.1]],
           artery=True),
    *_both([[30, -83, -25, 2.4], [50, -66, -27, 3.0], [54, -52, -36, 3.4], [47, -44, -48, 3.4],
            [36, -37, -57, 3.6]], artery=False),
    *_both([[18, -17, -34, 1.6], [21, -10, -36, 2.0]], artery=False),
    *_both([[13, -41, -47, 1.0], [18, -38, -47, 0.9]], artery=False),
]  # fmt: skip
"""Basilar, vertebral and carotid arteries, sigmoid sinuses, Meckel's caves, choroid plexus."""


def tube_distance(points_mm: FloatArray, path: Path_mm) -> FloatArray:
    """Distance of points ``(3, I, J, K)`` to the surface of a tube of varying radius, mm."""
    result = np.full(points_mm.shape[1:], np.inf, dtype=np.float32)
    for start, end in zip(path[:-1].astype(np.float32), path[1:].astype(np.float32), strict=True):
        step = end[:3] - start[:3]
        offset = points_mm - start[:3, None, None, None]
        along = np.clip(np.tensordot(step, offset, axes=1) / (step @ step), 0, 1)
        offset -= along * step[:, None, None, None]
        radius = start[3] + along * (end[3] - start[3])
        np.minimum(result, np.sqrt(np.square(offset).sum(axis=0)) - radius, out=result)
    return result


def occupancy(distance_mm: FloatArray, voxel_mm: float) -> FloatArray:
    """The part of each voxel inside a surface, 0 to 1; one half lies on the surface."""
    return np.clip(0.5 - distance_mm / voxel_mm, 0, 1)


def with_volume(distance_mm: FloatArray, voxel_mm3: float, volume_mm3: float) -> FloatArray:
    """Shift a distance so that its inside holds a given volume."""
    count = max(1, round(volume_mm3 / voxel_mm3))
    level: np.float32 = np.partition(distance_mm.ravel(), count)[count]
    return distance_mm - level


def cochlea_path(side: NDArray[np.float64], size: float) -> Path_mm:
    """The snail of the inner ear: two and a half turns rising forward and outward."""
    turn = np.linspace(0, 2.5 * 2 * np.pi, 26)
    share = turn / turn[-1]
    radius = size * (2.4 - 1.7 * share)
    coil = np.stack([radius * np.cos(turn), radius * np.sin(turn), size * (3.0 * share - 1.5)])
    axis = np.array([0.65, 0.72, -0.25]) / np.linalg.norm([0.65, 0.72, -0.25])
    first = np.cross(axis, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    points = np.stack([first, np.cross(axis, first), axis], axis=1) @ coil
    tube = size * (1.3 - 0.35 * share)
    return np.column_stack([(COCHLEA_MM + points.T) * side, tube])


def semicircular_paths(side: NDArray[np.float64]) -> list[Path_mm]:
    """The vestibule, and the lateral and superior semicircular canals behind it."""
    angle = np.linspace(0, 2 * np.pi, 14)
    ring = 3.1 * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    lateral = np.array([45.0, -28.0, -39.5]) + ring
    superior = (
        np.array([42.0, -26.5, -36.5]) + ring[:, [0, 2, 1]] * (0.8, 1, 1)
    )
    thin = np.full((len(angle), 1), 0.65)
    paths = [VESTIBULE, np.hstack([lateral, thin]), np.hstack([superior, thin])]
    return [path * np.append(side, 1.0) for path in paths]


@dataclass(frozen=True)
class Tumor:
    """A planted schwannoma, on the voxels of its box.

    Attributes:
        box: where it lies in the scan.
        distance_mm: distance to its surface, over the box.
        cyst_mm: distance to the surface of its cysts, over the box.
        texture: what varies inside it, mean 0 and standard deviation about 1, over the box.
        radius_mm: radius of the sphere of its volume.
        push: moves template positions ``(3, ...)`` apart to make room for it, in place.
    """

    box: Box
    distance_mm: FloatArray
    cyst_mm: FloatArray
    texture: FloatArray
    radius_mm: float


def grow_tumor(
    rng: np.random.Generator,
    frame: Frame,
    positions_mm: FloatArray,
    *,
    radius_mm: float,
    cystic: bool,
) -> tuple[Tumor, Callable[[FloatArray], None]]:
    """Shape a tumor that fills the canal and bulges into the cistern, on a random side.

    Args:
        rng: source of the shape.
        frame: grid of the scan.
        positions_mm: template mm of every voxel, ``(3, I, J, K)``.
        radius_mm: radius of the sphere of the same volume, in the patient.
        cystic: whether it holds fluid.

    Returns:
        The tumor, and what makes room for it in template positions.
    """
    side = MIRROR if rng.random() < 0.5 else np.ones(3)
    volume = 4 / 3 * np.pi * radius_mm**3
    canal = CANAL * np.append(side, 1.0)
    reach = np.clip((radius_mm - 1.0) / 5.0, 0.4, 1.0) * rng.uniform(0.7, 1.0)
    canal[2, :3] = canal[1, :3] + reach * (canal[2, :3] - canal[1, :3])
    canal[:, 3] += np.clip((radius_mm - 4.0) * 0.12, -0.4, 0.8)
    body_radius = np.cbrt(max(volume - 70.0, 0.35 * volume) * 3 / (4 * np.pi))
    inward = BRAIN_WARD * side
    center = CANAL[0, :3] * side + inward * body_radius * rng.uniform(0.6, 0.85)
    center[2] += rng.uniform(-0.25, 0.25) * body_radius
    box = frame.box(np.vstack([canal[:, :3], center]), 1.6 * body_radius + WARP_MARGIN_MM)
    points = positions_mm[:, *box]

    axes = np.stack([inward, ALONG_BONE * side, [0.0, 0.0, 1.0]]).astype(np.float32)
    semi = body_radius * np.array([0.95, 1.1, 1.0]) * rng.uniform(0.88, 1.12, size=3)
    local = np.tensordot(axes, points - center.astype(np.float32)[:, None, None, None], axes=1)
    body = np.sqrt(np.square(local / semi.astype(np.float32)[:, None, None, None]).sum(axis=0))
    body = (body - 1) * np.float32(body_radius)
    box_axes = [axis[part] for axis, part in zip(frame.axes_mm(), box, strict=True)]
    rough = smooth_field(rng, box_axes, scale_mm=max(2.2, 0.55 * radius_mm), fields=2)
    body += np.float32(0.11 * radius_mm) * rough[0]
    distance = _blend(body, tube_distance(points, canal), width_mm=1.0)
    distance = with_volume(distance, float(np.prod(frame.spacing_mm)), volume)
    cysts = _cysts(rng, points, center, body_radius, distance) if cystic else distance * 0 + 9
    texture = 0.8 * rough[1] + 0.6 * smooth_field(rng, box_axes, scale_mm=2.2, fields=1)[0]
    tumor = Tumor(box, distance, cysts, texture, radius_mm)
    return tumor, lambda target: _push(target, frame, center, inward, body_radius)


def _blend(first: FloatArray, second: FloatArray, *, width_mm: float) -> FloatArray:
    """The smooth union of two distances."""
    mix = np.clip(0.5 + 0.5 * (second - first) / width_mm, 0, 1)
    return second + mix * (first - second) - width_mm * mix * (1 - mix)


def _cysts(
    rng: np.random.Generator,
    points_mm: FloatArray,
    center_mm: NDArray[np.float64],
    radius_mm: float,
    tumor_mm: FloatArray,
) -> FloatArray:
    """Distance to one to three fluid pockets that keep a wall of tumor around them."""
    result = np.full(tumor_mm.shape, 9.0, dtype=np.float32)
    for _ in range(rng.integers(1, 4)):
        size = radius_mm * rng.uniform(0.25, 0.5)
        direction = rng.standard_normal(3)
        offset = direction / np.linalg.norm(direction) * (radius_mm - size) * rng.uniform(0.3, 0.9)
        middle = (center_mm + offset).astype(np.float32)[:, None, None, None]
        distance = np.sqrt(np.square(points_mm - middle).sum(axis=0)) - np.float32(size)
        result = np.minimum(result, distance)
    return np.maximum(result, tumor_mm + np.float32(1.0))


def _push(
    positions_mm: FloatArray,
    frame: Frame,
    center_mm: NDArray[np.float64],
    inward: NDArray[np.float64],
    radius_mm: float,
) -> None:
    """Move the brain away from the tumor: voxels look up tissue that was nearer its center.

    The shift falls with the distance and is zero toward the bone, which does not yield.
    """
    box = frame.box(center_mm[None], 3 * radius_mm + WARP_MARGIN_MM)
    offset = positions_mm[:, *box] - center_mm.astype(np.float32)[:, None, None, None]
    distance = np.sqrt(np.square(offset).sum(axis=0)) + np.float32(1e-3)
    relative = distance / np.float32(radius_mm)
    toward_brain = np.tensordot(inward.astype(np.float32), offset, axes=1) / distance
    yields = np.clip(toward_brain + 0.4, 0, 1)
    fade = np.clip(1 - relative / 3, 0, 1) / np.maximum(relative, 1)
    positions_mm[:, *box] -= offset * (np.float32(0.75) * yields * fade / np.maximum(relative, 1))
