"""What is planted in the template: tumor, inner ears with their canals, and enhancing vessels.

Shapes are given in template mm (MNI). A distance is negative inside and positive outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmod.phantom.anatomy import Box, FloatArray, Frame, smooth_field

Path_mm = NDArray[np.float64]
"""A tube: points with radii, ``(n, 4)``, x y z r in template mm."""

CANAL = np.array([[25.5, -28.2, -41.0, 2.9], [30.0, -26.4, -41.5, 2.1], [35.0, -24.0, -41.8, 1.8]])
"""Right internal auditory canal, from its mouth in the cistern to its blind end."""
COCHLEA_MM = np.array([37.2, -20.3, -42.0])
VESTIBULE = np.array([[40.0, -25.0, -42.0, 1.4], [42.5, -27.0, -40.5, 1.5]])
BRAIN_WARD = np.array([-0.76, -0.64, 0.05])
"""From the canal mouth away from the petrous bone, unit vector (right side)."""
ALONG_BONE = np.array([0.64, -0.76, 0.0])

MIRROR = np.array([-1.0, 1.0, 1.0])

NO_CYST_MM = 9.0
"""A distance that is outside of everything."""


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
    return np.asarray(np.clip(0.5 - distance_mm / voxel_mm, 0, 1), dtype=np.float32)


def with_volume(distance_mm: FloatArray, voxel_mm3: float, volume_mm3: float) -> FloatArray:
    """Shift a distance so that its inside holds a given volume."""
    count = max(1, round(volume_mm3 / voxel_mm3))
    level: np.float32 = np.partition(distance_mm.ravel(), count)[count]
    return distance_mm - level


def cochlea_paths(side: NDArray[np.float64], size: float) -> tuple[Path_mm, Path_mm]:
    """The snail of the inner ear: two and a half turns rising forward and outward, and its core."""
    turn = np.linspace(0, 2.5 * 2 * np.pi, 26)
    share = turn / turn[-1]
    radius = size * (2.4 - 1.7 * share)
    coil = np.stack([radius * np.cos(turn), radius * np.sin(turn), size * (3.0 * share - 1.5)])
    axis = np.array([0.65, 0.72, -0.25]) / np.linalg.norm([0.65, 0.72, -0.25])
    first = np.cross(axis, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    points = np.stack([first, np.cross(axis, first), axis], axis=1) @ coil
    snail = np.column_stack([COCHLEA_MM + points.T, size * (1.25 - 0.35 * share)])
    core = np.column_stack([COCHLEA_MM + axis * size * [[-1.2], [1.2]], [1.4 * size, size]])
    return snail * np.append(side, 1.0), core * np.append(side, 1.0)


def semicircular_paths(side: NDArray[np.float64]) -> list[Path_mm]:
    """The vestibule, and the lateral and superior semicircular canals behind it."""
    angle = np.linspace(0, 2 * np.pi, 14)
    ring = 3.1 * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    lateral = np.array([45.0, -28.0, -39.5]) + ring
    superior = np.array([42.0, -26.5, -36.5]) + ring[:, [0, 2, 1]] * (0.8, 1, 1)
    thin = np.full((len(angle), 1), 0.65)
    paths = [VESTIBULE, np.hstack([lateral, thin]), np.hstack([superior, thin])]
    return [path * np.append(side, 1.0) for path in paths]


@dataclass(frozen=True)
class Seat:
    """Where a tumor sits.

    Attributes:
        canal: the tube that it fills, ``(3, 4)``.
        center_mm: middle of its body in the cistern, template mm.
        radius_mm: radius of that body.
        inward: unit vector from the bone toward the brain.
        along: unit vector along the bone.
    """

    canal: Path_mm
    center_mm: NDArray[np.float64]
    radius_mm: float
    inward: NDArray[np.float64]
    along: NDArray[np.float64]


@dataclass(frozen=True)
class Tumor:
    """A planted schwannoma, on the voxels of its box.

    Attributes:
        seat: where it sits in the template.
        box: where it lies in the scan.
        distance_mm: distance to its surface.
        cyst_mm: distance to the surface of its cysts.
        cleft: share of trapped fluid between it and the brain, 0 to 1.
        texture: what varies inside it, mean 0 and standard deviation about 1.
    """

    seat: Seat
    box: Box
    distance_mm: FloatArray
    cyst_mm: FloatArray
    cleft: FloatArray
    texture: FloatArray


def grow_tumor(
    rng: np.random.Generator,
    frame: Frame,
    positions_mm: FloatArray,
    *,
    radius_mm: float,
    cystic: bool,
) -> Tumor:
    """Shape a tumor that fills the canal and bulges into the cistern, on a random side.

    Args:
        rng: source of the shape.
        frame: grid of the scan.
        positions_mm: template mm of every voxel, ``(3, I, J, K)``.
        radius_mm: radius of the sphere of the same volume, in the patient.
        cystic: whether it holds fluid.
    """
    seat = _choose_seat(rng, radius_mm)
    around = np.vstack([seat.canal[:, :3], seat.center_mm])
    box = frame.box(around, 1.6 * seat.radius_mm)
    points = positions_mm[:, *box]
    axes = [axis[part] for axis, part in zip(frame.axes_mm(), box, strict=True)]
    rough, coarse, patches = smooth_field(rng, axes, scale_mm=max(2.2, 0.55 * radius_mm), fields=3)
    body, brain_side = _body(rng, seat, points)
    body += np.float32(0.11 * radius_mm) * rough
    distance = _blend(body, tube_distance(points, seat.canal), width_mm=1.0)
    volume_mm3 = 4 / 3 * np.pi * radius_mm**3
    distance = with_volume(distance, frame.voxel_mm**3, volume_mm3)
    cysts = np.full_like(distance, NO_CYST_MM)
    if cystic:
        cysts = _cysts(rng, points, seat, distance)
    cleft = occupancy(distance - np.float32(rng.uniform(0, 1.5)), 1.0) * brain_side
    cleft *= np.clip(np.float32(0.6) + np.float32(0.6) * patches, 0, 1)
    fine = smooth_field(rng, axes, scale_mm=2.2, fields=1)[0]
    texture = np.float32(0.8) * coarse + np.float32(0.6) * fine
    return Tumor(seat, box, distance, cysts, cleft, texture)


def _choose_seat(rng: np.random.Generator, radius_mm: float) -> Seat:
    """Small tumors lie in the canal; large ones fill it, widen its mouth and grow inward."""
    side = MIRROR if rng.random() < 0.5 else np.ones(3)
    canal = CANAL * np.append(side, 1.0)
    reach = np.clip((radius_mm - 1.0) / 5.0, 0.4, 1.0) * rng.uniform(0.7, 1.0)
    canal[2, :3] = canal[1, :3] + reach * (canal[2, :3] - canal[1, :3])
    canal[:, 3] += np.clip((radius_mm - 4.0) * 0.12, -0.4, 0.8)
    volume_mm3 = 4 / 3 * np.pi * radius_mm**3
    # About 70 mm3 of it is in the canal.
    body_mm3 = max(volume_mm3 - 70.0, 0.35 * volume_mm3)
    body_mm = float(np.cbrt(body_mm3 * 3 / (4 * np.pi)))
    center = canal[0, :3] + BRAIN_WARD * side * body_mm * rng.uniform(0.6, 0.85)
    center[2] += rng.uniform(-0.25, 0.25) * body_mm
    return Seat(canal, center, body_mm, BRAIN_WARD * side, ALONG_BONE * side)


def _body(
    rng: np.random.Generator, seat: Seat, points_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Distance to an ellipsoid that leans on the bone; 0 to 1 from its bone to its brain side."""
    axes = np.stack([seat.inward, seat.along, [0.0, 0.0, 1.0]]).astype(np.float32)
    local = np.tensordot(axes, points_mm - _column(seat.center_mm), axes=1)
    semi = np.array([0.95, 1.1, 1.0]) * rng.uniform(0.88, 1.12, size=3)
    local /= _column(semi * seat.radius_mm)
    distance = (np.sqrt(np.square(local).sum(axis=0)) - 1) * np.float32(seat.radius_mm)
    return distance, np.clip(2 * local[0] + 0.5, 0, 1)


def _blend(first: FloatArray, second: FloatArray, *, width_mm: float) -> FloatArray:
    """The smooth union of two distances."""
    mix = np.clip(0.5 + 0.5 * (second - first) / width_mm, 0, 1)
    return np.asarray(second + mix * (first - second) - width_mm * mix * (1 - mix))


def _cysts(
    rng: np.random.Generator, points_mm: FloatArray, seat: Seat, tumor_mm: FloatArray
) -> FloatArray:
    """Distance to one to three fluid pockets that keep a wall of tumor around them."""
    result = np.full_like(tumor_mm, NO_CYST_MM)
    for _ in range(rng.integers(1, 4)):
        size = seat.radius_mm * rng.uniform(0.25, 0.5)
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        middle = seat.center_mm + direction * (seat.radius_mm - size) * rng.uniform(0.3, 0.9)
        distance = np.sqrt(np.square(points_mm - _column(middle)).sum(axis=0))
        np.minimum(result, distance - np.float32(size), out=result)
    # Pockets that run into each other round off against a wall of 1 mm.
    return np.asarray(np.maximum(result, tumor_mm + np.float32(1.0)))


def make_room(positions_mm: FloatArray, frame: Frame, seat: Seat) -> FloatArray:
    """Push the brain away from a tumor: voxels look up tissue that was nearer to its center.

    The shift falls with the distance and is zero toward the bone, which does not yield.

    Args:
        positions_mm: template mm of every voxel, ``(3, I, J, K)``.
        frame: grid of the scan.
        seat: where the tumor sits.

    Returns:
        The positions to look tissue up at, ``(3, I, J, K)``.
    """
    room = positions_mm.copy()
    box = frame.box(seat.center_mm[None], 3 * seat.radius_mm)
    offset = room[:, *box] - _column(seat.center_mm)
    distance = np.sqrt(np.square(offset).sum(axis=0)) + np.float32(1e-3)
    relative = distance / np.float32(seat.radius_mm)
    toward_brain = np.tensordot(seat.inward.astype(np.float32), offset, axes=1) / distance
    yields = np.float32(0.75) * np.clip(toward_brain + 0.4, 0, 1)
    fade = np.clip(1 - relative / 3, 0, 1) / np.maximum(relative, 1) ** 2
    room[:, *box] -= offset * (yields * fade)
    return room


def _column(vector: NDArray[np.float64]) -> FloatArray:
    """A vector ``(3,)`` as ``(3, 1, 1, 1)``, to meet positions ``(3, I, J, K)``."""
    return vector.astype(np.float32)[:, None, None, None]
