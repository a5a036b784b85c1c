"""Rotation and scaling of training patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossmod.torch import send
from crossmod_unet3d import Augmentation
from crossmod_unet3d.plan import Axes
from crossmod_unet3d.sampling import Box, Loaded

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
    case: Loaded,
    center: np.ndarray,
    patch: Axes,
    spacing_mm: tuple[float, ...],
    motion: Motion,
    device: str,
) -> tuple[Tensor, Tensor]:
    """The patch around a voxel, turned and scaled about its middle, looked up in the volume.

    What lies outside the volume is 0. Linear interpolation of the image, and of the share of every
    label, the largest of which wins.

    Args:
        case: the volume and its labels; only what the patch shows is sent to the device.
        center: the voxel, ``(3,)``.
        patch: voxels of the patch.
        spacing_mm: voxel size; angles are true in mm.
        motion: what to do.
        device: where to do it.

    Returns:
        Image, float32, and labels, uint8, of the size of the patch, on the device.
    """
    matrix, size = motion.matrix(spacing_mm), np.array(patch)
    start = np.asarray(center) - size // 2
    middle = start + (size - 1) / 2
    reach = np.abs(matrix) @ ((size - 1) / 2)
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(middle + reach) + 1, case.shape).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    moving = [axis for axis in range(3) if axis != motion.thick]
    within = np.ix_(moving, moving)
    grid = _grid(matrix[within], (middle - low)[moving], (high - low)[moving], size[moving], device)
    image = _look_up(send(case.image[box], device)[None], grid, motion.thick)[0]
    labels = torch.zeros(patch, dtype=torch.uint8, device=device)
    shown = case.shown_in(box)
    seen = _seen([case.boxes[label] for label in shown], matrix, middle, size)
    if motion.thick is not None:
        before, after = (int(n[motion.thick]) for n in (low - start, start + size - high))
        seen[motion.thick] = slice(before, patch[motion.thick] - after)
        image = functional.pad(image, [0, 0] * (2 - motion.thick) + [before, after])
    if all(part.start < part.stop for part in seen):
        outlined = send(case.labels[box], device)
        masks = torch.stack([outlined == label for label in shown]).float()
        part = grid[tuple(seen[axis] for axis in moving)]
        labels[tuple(seen)] = _winner(_look_up(masks, part, motion.thick), shown)
    return image, labels


def _seen(
    boxes: Sequence[Box], matrix: np.ndarray, middle: np.ndarray, size: np.ndarray
) -> list[slice]:
    """The part of the patch that can show anything within boxes; it is empty without any."""
    if not boxes:
        return [slice(0, 0)] * 3
    # A voxel has a share in what is less than one voxel away from it.
    first = np.min([[part.start for part in box] for box in boxes], axis=0) - 1
    last = np.max([[part.stop for part in box] for box in boxes], axis=0)
    corners = np.array(list(product(*zip(first, last, strict=True))))
    places = (corners - middle) @ np.linalg.inv(matrix).T + (size - 1) / 2
    begin = np.clip(np.floor(places.min(axis=0)), 0, size).astype(int)
    end = np.clip(np.ceil(places.max(axis=0)) + 1, 0, size).astype(int)
    return [slice(int(a), int(b)) for a, b in zip(begin, end, strict=True)]


def _grid(
    matrix: np.ndarray, middle: np.ndarray, sizes: np.ndarray, patch: np.ndarray, device: str
) -> Tensor:
    """Where a patch of two or three axes looks: ``(..., axes)`` as `functional.grid_sample` reads.

    That is at ``matrix @ step + middle``, where ``step`` counts from the middle of the patch.
    """
    grid = torch.zeros(len(patch), device=device)
    for axis, edge in enumerate(patch):
        # torch counts from the edges of the outermost voxels, -1 to 1, and begins at the last axis.
        steps = (np.arange(edge) - (edge - 1) / 2)[:, None] * matrix[:, axis] * 2 / sizes
        if axis == 0:
            steps += (2 * middle + 1) / sizes - 1
        line = send(torch.from_numpy(steps[:, ::-1].astype(np.float32)), device)
        grid = grid.unsqueeze(-2) + line
    return grid


def _look_up(maps: Tensor, grid: Tensor, thick: int | None) -> Tensor:
    """Maps ``(C, I, J, K)`` at the places of a grid, linear, 0 outside.

    A grid of two axes holds for every plane across the thick axis, which stays exactly as it is.
    """
    if thick is None:
        return functional.grid_sample(maps[None], grid[None], align_corners=False)[0]
    planes = maps.movedim(1 + thick, 1)
    found = functional.grid_sample(planes.flatten(0, 1)[None], grid[None], align_corners=False)
    return found.view(*planes.shape[:2], *found.shape[2:]).movedim(1, 1 + thick)


def _winner(shares: Tensor, labels: Sequence[int]) -> Tensor:
    """The label, uint8, of the largest share ``(C, ...)``; what they leave is background."""
    best = 1 - shares.sum(0)
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=shares.device)
    for label, share in zip(labels, shares, strict=True):
        winner.masked_fill_(share > best, label)
        best = torch.maximum(best, share)
    return winner
