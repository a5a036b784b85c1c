"""Random changes of training patches: nnU-Net's, with its laws and its order, and a bias field.

Every parameter, and noise itself, is drawn on the CPU from a generator of the caller, so that a
patch depends on its own seed only and may be made in any thread. The arithmetic is done where the
patch lies: on a GPU it gives the same patch up to rounding, and nothing waits for it.

Source: `nnUNetTrainer.get_training_transforms` of nnU-Net 2.8 and batchgeneratorsv2 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.polynomial import polynomial
from torch import Tensor
from torch.nn import functional

from crossmod.torch import send
from crossmod_unet3d import Augmentation

Change = Callable[[Tensor, np.random.Generator], Tensor]
"""Takes an image ``(I, J, K)`` and returns another of the same shape; the first stays as it is."""

NOISE = (0.0, 0.1)  # a standard deviation, though nnU-Net calls it a variance
BLUR_VOXELS = (0.5, 1.0)
BRIGHTNESS = CONTRAST = (0.75, 1.25)
RESOLUTION = (0.5, 1.0)
GAMMA = (0.7, 1.5)
BIAS = 0.3
BIAS_ORDER = 3


def recolor(
    image: Tensor, thick: int | None, chances: Augmentation, rng: np.random.Generator
) -> Tensor:
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


def draw_factor(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """A factor that is below 1 as often as above, uniform on either side (``BGContrast``)."""
    low, high = bounds
    return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)


def _noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    spread = rng.uniform(*NOISE)
    noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
    return torch.add(image, send(torch.from_numpy(noise), image.device), alpha=spread)


def _blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    for axis, width in enumerate(rng.uniform(*BLUR_VOXELS, image.dim())):
        image = _blur_along(image, axis, float(width))
    return image


def _blur_along(image: Tensor, axis: int, width: float) -> Tensor:
    # The length of batchgeneratorsv2's kernels: the odd number nearest to 6 widths + 0.5.
    radius, size = int(3 * width + 0.25), image.shape[axis]
    taps = [math.exp(-0.5 * (step / width) ** 2) for step in range(radius + 1)]
    middle, *beside = (tap / (2 * sum(taps) - taps[0]) for tap in taps)
    outside = [*range(-radius, 0), *range(size, size + radius)]
    planes = [image.narrow(axis, _mirrored(place, size), 1) for place in outside]
    padded = torch.cat([*planes[:radius], image, *planes[radius:]], axis)
    blurred = image * middle
    for step, tap in enumerate(beside, start=1):
        for start in (radius - step, radius + step):
            blurred.add_(padded.narrow(axis, start, size), alpha=tap)
    return blurred


def _mirrored(place: int, size: int) -> int:
    """The place in a line of voxels that is seen in a mirror at its outermost voxels."""
    place %= max(2 * (size - 1), 1)
    return min(place, 2 * (size - 1) - place)


def _brightness(image: Tensor, rng: np.random.Generator) -> Tensor:
    return image * draw_factor(BRIGHTNESS, rng)


def _contrast(image: Tensor, rng: np.random.Generator) -> Tensor:
    mean, (low, high) = image.mean(), torch.aminmax(image)
    return (image - mean).mul_(draw_factor(CONTRAST, rng)).add_(mean).clamp_(low, high)


def _low_resolution(image: Tensor, rng: np.random.Generator, *, thick: int | None) -> Tensor:
    factor = rng.uniform(*RESOLUTION)
    small = [
        size if axis == thick else max(round(size * factor), 1)
        for axis, size in enumerate(image.shape)
    ]
    coarse = functional.interpolate(image[None, None], size=small, mode="nearest-exact")
    return functional.interpolate(coarse, size=image.shape, mode="trilinear")[0, 0]


def _gamma(image: Tensor, rng: np.random.Generator) -> Tensor:
    low, high = torch.aminmax(image)
    curved = ((image - low) / (high - low).clamp(min=1e-7)) ** draw_factor(GAMMA, rng)
    (mean, spread), (new_mean, new_spread) = _mean_and_spread(image), _mean_and_spread(curved)
    return curved.sub_(new_mean).mul_(spread / new_spread.clamp(min=1e-7)).add_(mean)


def _mean_and_spread(image: Tensor) -> tuple[Tensor, Tensor]:
    mean = image.mean()
    return mean, (image - mean).square_().mean().sqrt()


def _inverted_gamma(image: Tensor, rng: np.random.Generator) -> Tensor:
    return _gamma(-image, rng).neg_()


def _bias_field(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Multiply by the exponential of a random cubic polynomial, as TorchIO's `BiasField`."""
    weights = np.zeros((BIAS_ORDER + 1,) * 3)
    used = np.indices(weights.shape).sum(axis=0) <= BIAS_ORDER
    weights[used] = rng.uniform(-BIAS, BIAS, np.count_nonzero(used))
    i, j, k = (np.linspace(-1, 1, size) for size in image.shape)
    powers = polynomial.polyvander(i, BIAS_ORDER)
    planes = polynomial.polygrid2d(j, k, weights.transpose(1, 2, 0))  # one for each power of I
    along, across = (
        send(torch.from_numpy(part.astype(np.float32)), image.device)
        for part in (powers, planes.reshape(BIAS_ORDER + 1, -1))
    )
    field = (along @ across).view(image.shape).exp_()
    low = image.amin()  # a coil multiplies a signal that is never negative
    return (image - low).mul_(field).add_(low)
