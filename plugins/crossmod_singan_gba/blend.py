"""Blending: how much of the redrawn slice shows at each pixel, and the slices of a volume."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crossmod import FloatArray

Mask = NDArray[np.bool_]
ScalarT = TypeVar("ScalarT", bound=np.generic)


def weights_of(masks: Mask, *, radius: int, sigma: float) -> FloatArray:
    """The weight w of equation (7): each mask dilated by a disk, blurred, stretched to [0, 1].

    As in the official SinGAN code, where pixels were photo pixels: radius and sigma are in voxels.

    Args:
        masks: one structure in slices ``(S, H, W)``; none may be empty.
        radius: radius of the disk, voxels.
        sigma: standard deviation of the blur, voxels.

    Returns:
        Weights ``(S, H, W)``; 1 in the structure's core, 0 far from it.
    """
    weights = np.empty(masks.shape, np.float32)
    for weight, mask in zip(weights, masks, strict=True):
        # A pixel is inside the dilated mask where the mask is no farther than the radius.
        dilated = ndimage.distance_transform_edt(~mask) <= radius
        ndimage.gaussian_filter(dilated.astype(np.float32), sigma, output=weight, mode="nearest")
        low, high = weight.min(), weight.max()
        weight[...] = (weight - low) / (high - low) if high > low else 1
    return weights


class SliceStack:
    """The axial slices of a volume that hold a structure, and the way back into the volume.

    Attributes:
        masks: the structure, bool ``(S, I, J)``.
    """

    def __init__(self, mask: Mask) -> None:
        """Find the slices along K of a mask ``(I, J, K)``."""
        self.indices = np.flatnonzero(mask.any(axis=(0, 1)))
        self.masks = self.take(mask)

    def take(self, volume: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """The slices ``(S, I, J)`` of a volume ``(I, J, K)``."""
        return volume[:, :, self.indices].transpose(2, 0, 1)

    def put(self, volume: FloatArray, slices: FloatArray) -> FloatArray:
        """A copy of a volume ``(I, J, K)`` with its slices replaced by ``(S, I, J)``."""
        changed = volume.copy()
        changed[:, :, self.indices] = slices.transpose(1, 2, 0)
        return changed
