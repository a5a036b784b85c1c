"""Van Cittert's iteration for a Gaussian blur, on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from crossmod import FloatArray

AIR = 0.05
"""Voxels that are not brighter lie outside of the head."""


def deconvolve(
    blurred: FloatArray,
    sigma: NDArray[np.float64],
    *,
    iterations: int,
    relaxation: float,
    nonnegative: bool,
) -> FloatArray:
    """Undo a Gaussian blur: x <- x + relaxation (y - h * x), from x = y (Van Cittert 1931).

    The blur's transfer function lies between 0 and 1, so the iteration converges for a relaxation
    below 2. Detail that the blur removed is amplified at most 1 + relaxation x iterations times,
    noise included; that is why few iterations are taken.

    Args:
        blurred: y, ``(I, J, K)``.
        sigma: standard deviation of the blur along I, J, K, voxels.
        iterations: number of corrections.
        relaxation: part of the difference corrected at once, above 0 and below 2.
        nonnegative: whether negative values become 0 after each correction.

    Returns:
        x, ``(I, J, K)``, with no upper bound.
    """
    blurs = [blur_matrix(n, s) for n, s in zip(blurred.shape, sigma, strict=True)]
    result = blurred.copy()
    for _ in range(iterations):
        result += np.float32(relaxation) * (blurred - blur(result, blurs))
        if nonnegative:
            np.maximum(result, 0, out=result)
    return result


def blur_matrix(length: int, sigma: float) -> FloatArray:
    """The Gaussian blur of one axis as a matrix ``(length, length)``; borders are reflected.

    One product with a matrix is several times faster than a filter, because all of it is BLAS.
    """
    identity = np.eye(length)
    return np.asarray(gaussian_filter1d(identity, sigma, axis=0, mode="reflect"), dtype=np.float32)


def blur(image: FloatArray, blurs: list[FloatArray]) -> FloatArray:
    """Blur ``(I, J, K)`` along each axis with the matrix of that axis."""
    along_i, along_j, along_k = blurs
    result = (along_i @ image.reshape(len(image), -1)).reshape(image.shape)
    blurred: FloatArray = np.matmul(along_j, result) @ along_k.T
    return blurred


def driven_to_ends(before: FloatArray, after: FloatArray) -> float:
    """The share of the head's voxels that are at 0 or 1 and were not before.

    Args:
        before: an image in [0, 1], of any shape.
        after: the sharpened image in [0, 1], of the same shape.

    Returns:
        A part of 1; 0 where nothing is brighter than air.
    """
    head = before > AIR
    driven = head & (before < 1) & ((after <= 0) | (after >= 1))
    return float(driven.sum() / max(1, head.sum()))
