"""Two masks that are nearly the same, and a volume, for works of several libraries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SPACING_MM = (0.6, 0.6, 1.0)


def masks(shape: tuple[int, ...], radius: float) -> tuple[tuple[Mask, Mask], tuple[float, ...]]:
    """Uneven balls and the size of a voxel in mm.

    Args:
        shape: of the volume.
        radius: of the balls, as a share of half of each side.
    """
    from scipy import ndimage

    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    pair = []
    for seed in (0, 1):
        noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        bumps = ndimage.gaussian_filter(noise, 3)
        bumps *= 0.1 / bumps.std()
        distance = np.sqrt(sum((axis / radius) ** 2 for axis in axes))
        pair.append(np.asarray(distance + bumps < 1))
    return (pair[0], pair[1]), SPACING_MM


def volume(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Integers as scanners store them, in the order in which files hold them; 0 around a head."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2)
    values = 400 + 150 * smooth / smooth.std() + 12 * rng.standard_normal(shape)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    head = sum(axis**2 for axis in axes) < 1
    return np.asfortranarray(np.round(np.clip(values, 0, 4095)) * head, dtype=np.float32)
