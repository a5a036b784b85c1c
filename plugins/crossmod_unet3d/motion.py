"""Rotation and scaling of training patches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch.nn import functional

from crossmod import FloatArray, LabelArray
from crossmod_unet3d import Augmentation
from crossmod_unet3d.plan import Axes

PLANE_DEGREES = 180.0
SPACE_DEGREES = 30.0
SCALES = (0.7, 1.4)


@dataclass(frozen=True)
class Motion:
    """A rotation and scaling of a patch.

    Attributes:
        degrees: angles about I, J, K.
        scale: above 1 makes objects smaller, as in nnU-Net.
        thick: the axis along which nothing moves, see `Plan.thick_axis`.
    """

    degrees: tuple[float, float, float]
    scale: float
    thick: int | None

    def matrix(self, spacing_mm: tuple[float, ...]) -> np.ndarray:
        """From steps in the moved patch to steps in the volume, both in voxels, ``(3, 3)``."""
        about_i, about_j, about_k = (_rotation(axis, a) for axis, a in enumerate(self.degrees))
        scales = [1.0 if axis == self.thick else self.scale for axis in range(3)]
        spacing = np.array(spacing_mm)
        turn = about_i @ about_j @ about_k  # nnU-Net's order: its first axis is the last here
        return np.asarray(turn * spacing / spacing[:, None] * scales)


def _rotation(axis: int, degrees: float) -> np.ndarray:
    one, other = (axis + 1) % 3, (axis + 2) % 3
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix


def draw_motion(
    thick: int | None, chances: Augmentation, rng: np.random.Generator
) -> Motion | None:
    """A random motion, or None to leave the patch as it is."""
    rotated, scaled = rng.random() < chances.rotation, rng.random() < chances.scaling
    if not (rotated or scaled):
        return None
    angles = np.zeros(3)
    if rotated and thick is None:
        angles = rng.uniform(-SPACE_DEGREES, SPACE_DEGREES, 3)
    elif rotated:
        angles[thick] = rng.uniform(-PLANE_DEGREES, PLANE_DEGREES)
    scale = float(rng.uniform(*SCALES)) if scaled else 1.0
    return Motion((float(angles[0]), float(angles[1]), float(angles[2])), scale, thick)


def move(
    image: FloatArray,
    labels: LabelArray,
    center: np.ndarray,
    patch: Axes,
    spacing_mm: tuple[float, ...],
    motion: Motion,
) -> tuple[FloatArray, LabelArray]:
    """The patch around a voxel, rotated and scaled about its middle; 0 outside the volume.

    Linear interpolation: of the image, and of the share of every label, the largest of which wins.

    Args:
        image: float32 ``(I, J, K)``, the volume.
        labels: uint8 ``(I, J, K)``.
        center: the voxel, ``(3,)``.
        patch: voxels of the patch.
        spacing_mm: voxel size; angles are true in mm.
        motion: what to do.

    Returns:
        Image, float32, and labels, uint8, of the size of the patch.
    """
    matrix, size = motion.matrix(spacing_mm), np.array(patch)
    start = np.asarray(center) - size // 2
    middle = start + (size - 1) / 2
    reach = np.abs(matrix) @ ((size - 1) / 2)
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(middle + reach) + 1, image.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    outlined = labels[box]
    masks = (outlined == label for label in range(1, int(outlined.max()) + 1))
    maps = np.stack([image[box], *masks], dtype=np.float32)
    if motion.thick is None:
        moved = _look_up(maps, matrix, middle - low, patch)
    else:
        moved = _look_up_planes(maps, matrix, middle - low, patch, motion.thick)
        outside = np.zeros((4, 2), dtype=int)  # planes of the patch before and after the volume
        outside[1 + motion.thick] = np.array([low - start, start + size - high])[:, motion.thick]
        moved = np.pad(moved, outside)
    return moved[0], _winner(moved[1:])


def _look_up_planes(
    maps: FloatArray, matrix: np.ndarray, middle: np.ndarray, patch: Axes, thick: int
) -> FloatArray:
    """`_look_up` in every plane across the thick axis, which stays exactly as it is."""
    plane = [axis for axis in range(3) if axis != thick]
    stacked = np.moveaxis(maps, 1 + thick, 1)
    moved = _look_up(
        stacked.reshape(-1, *stacked.shape[2:]),
        matrix[np.ix_(plane, plane)],
        middle[plane],
        tuple(patch[axis] for axis in plane),
    )
    return np.moveaxis(moved.reshape(*stacked.shape[:2], *moved.shape[1:]), 1, 1 + thick)


def _look_up(
    maps: FloatArray, matrix: np.ndarray, middle: np.ndarray, patch: tuple[int, ...]
) -> FloatArray:
    """Maps ``(C, ...)`` of two or three axes at ``matrix @ step + middle``, linear, 0 outside.

    ``step`` runs over a grid of ``patch`` voxels, counted from its middle.
    """
    coordinates = []
    for row, origin, size in zip(matrix, middle, maps.shape[1:], strict=True):
        # torch counts from the edges of the outermost voxels, -1 to 1.
        lines = [
            ((np.arange(edge) - (edge - 1) / 2) * step * 2 / size).astype(np.float32)
            for step, edge in zip(row, patch, strict=True)
        ]
        lines[0] += np.float32((2 * origin + 1) / size - 1)
        coordinates.append(reduce(np.add.outer, lines))
    grid = np.stack(coordinates[::-1], axis=-1)  # torch names the last axis first
    found = functional.grid_sample(
        torch.from_numpy(maps)[None], torch.from_numpy(grid)[None], align_corners=False
    )
    return np.asarray(found[0])


def _winner(shares: FloatArray) -> LabelArray:
    """Labels, uint8, from the shares of labels 1, 2, ... ``(C, ...)``; the rest is background."""
    background = 1 - shares.sum(axis=0)
    return np.asarray(np.argmax(np.stack([background, *shares]), axis=0), dtype=np.uint8)
