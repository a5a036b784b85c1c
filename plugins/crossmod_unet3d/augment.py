"""Random changes of training patches: nnU-Net's, with its laws and its order, and a bias field.

Every parameter is drawn from a generator of the caller, so that a patch depends on its own seed
only and may be made in any thread.

Source: `nnUNetTrainer.get_training_transforms` of nnU-Net 2.8 and batchgeneratorsv2 0.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.polynomial import polynomial
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from crossmod import FloatArray
from crossmod_unet3d import Augmentation

Change = Callable[[FloatArray, np.random.Generator], FloatArray]
"""Takes an image ``(I, J, K)`` and returns another of the same shape."""

NOISE = (0.0, 0.1)  # a standard deviation, though nnU-Net calls it a variance
BLUR_VOXELS = (0.5, 1.0)
BRIGHTNESS = CONTRAST = (0.75, 1.25)
RESOLUTION = (0.5, 1.0)
GAMMA = (0.7, 1.5)
BIAS = 0.3
BIAS_ORDER = 3


def recolor(
    image: FloatArray, thick: int | None, chances: Augmentation, rng: np.random.Generator
) -> FloatArray:
    """Change the intensities of a patch, in nnU-Net's order.

    Args:
        image: float32 ``(I, J, K)``.
        thick: the axis along which resolution stays, see `Plan.thick_axis`.
        chances: how often each change is made.
        rng: source of randomness.
    """
    for name, change in changes(thick).items():
        if rng.random() < getattr(chances, name):
            image = change(image, rng)
    return image


def changes(thick: int | None) -> dict[str, Change]:
    """Name in `Augmentation` -> change, in the order in which they are made."""
    return {
        "noise": _noise,
        "blur": _blur,
        "brightness": _brightness,
        "contrast": _contrast,
        "low_resolution": partial(_low_resolution, thick=thick),
        "inverted_gamma": _inverted_gamma,
        "gamma": _gamma,
        "bias_field": _bias_field,
    }


def draw_factor(bounds: tuple[float, float], rng: np.random.Generator) -> np.float32:
    """A factor that is below 1 as often as above, uniform on either side (``BGContrast``)."""
    low, high = bounds
    return np.float32(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _noise(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    spread = np.float32(rng.uniform(*NOISE))
    return np.asarray(image + rng.standard_normal(image.shape, dtype=np.float32) * spread)


def _blur(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    widths = rng.uniform(*BLUR_VOXELS, image.ndim)
    # The length of batchgeneratorsv2's kernels: the odd number nearest to 6 widths + 0.5.
    radii = [int(3 * width + 0.25) for width in widths]
    return np.asarray(gaussian_filter(image, widths, mode="mirror", radius=radii))


def _brightness(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    return image * draw_factor(BRIGHTNESS, rng)


def _contrast(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    mean, low, high = image.mean(), image.min(), image.max()
    stretched = (image - mean) * draw_factor(CONTRAST, rng) + mean
    return np.asarray(np.clip(stretched, low, high))


def _low_resolution(
    image: FloatArray, rng: np.random.Generator, *, thick: int | None
) -> FloatArray:
    factor = rng.uniform(*RESOLUTION)
    small = [
        size if axis == thick else max(round(size * factor), 1)
        for axis, size in enumerate(image.shape)
    ]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    coarse = functional.interpolate(tensor, size=small, mode="nearest-exact")
    fine = functional.interpolate(coarse, size=image.shape, mode="trilinear")
    return np.asarray(fine[0, 0])


def _gamma(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    low, high = image.min(), image.max()
    unit = (image - low) / max(high - low, 1e-7)
    curved = unit ** draw_factor(GAMMA, rng)
    spread = image.std() / max(curved.std(), 1e-7)
    return np.asarray((curved - curved.mean()) * spread + image.mean())


def _inverted_gamma(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    return -_gamma(-image, rng)


def _bias_field(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Multiply by the exponential of a random cubic polynomial, as TorchIO's `BiasField`."""
    weights = np.zeros((BIAS_ORDER + 1,) * 3)
    used = np.indices(weights.shape).sum(axis=0) <= BIAS_ORDER
    weights[used] = rng.uniform(-BIAS, BIAS, np.count_nonzero(used))
    i, j, k = (np.linspace(-1, 1, size) for size in image.shape)
    field = np.exp(polynomial.polygrid3d(i, j, k, weights).astype(np.float32))
    low = image.min()  # a coil multiplies a signal that is never negative
    return np.asarray((image - low) * field + low)
