"""Random contrasts: what a segmenter that has never seen the target modality can still learn from.

The control for every translation. Off by default; parameters are drawn as in `augment`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossmod import FloatArray
from crossmod.torch import send
from crossmod_unet3d import Augmentation

LAYERS, CHANNELS = 4, 2
SLOPE = 0.01
POINTS = 1025
"""Samples of a curve over the range of a patch."""
SAMPLES = 100_000
"""Voxels of a patch among which quantiles are looked for."""
BACKGROUND = 0.01
"""Share of the range of a patch above its lowest value that counts as air."""


def restyle(
    image: Tensor,
    labels: Tensor,
    classes: int,
    chances: Augmentation,
    rng: np.random.Generator,
) -> Tensor:
    """Give a patch another contrast.

    Args:
        image: float32 ``(I, J, K)``.
        labels: uint8 ``(I, J, K)``, 0 for background and 1 to ``classes``; more is ignored.
        classes: structures besides the background.
        chances: how often each change is made; one of chance 0 draws no random number.
        rng: source of randomness.
    """
    if chances.class_contrast and rng.random() < chances.class_contrast:
        image = _by_class(image, labels, classes, rng)
    if chances.random_convolution and rng.random() < chances.random_convolution:
        image = _convolved(image, rng)
    return image


def _convolved(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix with the output of a random shallow network, as GIN (Ouyang et al. 2022) of DG-TTA.

    Four layers, kernels of 1 or 3 voxels, LeakyReLU between them; the norm of the patch is kept.
    """
    found = image[None, None]
    for layer in range(LAYERS):
        given, made = found.shape[1], CHANNELS if layer < LAYERS - 1 else 1
        side = int(rng.choice((1, 3)))
        kernel = rng.standard_normal((made, given, side, side, side), dtype=np.float32)
        shifts = rng.standard_normal(made, dtype=np.float32)
        weights, bias = (send(torch.from_numpy(one), image.device) for one in (kernel, shifts))
        found = functional.conv3d(found, weights, bias, padding=side // 2)
        if layer < LAYERS - 1:
            found = functional.leaky_relu(found, SLOPE)
    share = rng.uniform()
    mixed = found[0, 0].mul(share).add_(image, alpha=1 - share)
    norm = torch.linalg.vector_norm
    return mixed.mul_(norm(image) / norm(mixed).clamp_min(1e-5))


def _by_class(image: Tensor, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
    """Another curve, factor and shift for every class: SLAug's local form (Su et al. 2023).

    Values are those of its code: the background falls, a structure with one chance in two; what is
    next to the lowest value of the patch stays.
    """
    low, high = torch.aminmax(image)
    width = (high - low).clamp_min(1e-7)
    unit = (image - low) / width
    result = unit.clone()
    # Every class is drawn for, in the patch or not: to ask would be to wait for the device.
    rest = (labels == 0) | (labels > classes)  # what is ignored looks like the background
    for label in range(1 + classes):
        inside = labels == label if label else rest
        falling = label == 0 or bool(rng.random() < 0.5)
        bent = _curved(unit, inside, falling, rng)
        result = torch.where(inside, _moved(bent, inside, rng), result)
    result = torch.where(rest & (unit <= BACKGROUND), unit, result)
    return result.mul_(width).add_(low)


def _curved(values: Tensor, inside: Tensor, falling: bool, rng: np.random.Generator) -> Tensor:
    """Put values through a curve from the lowest to the highest of a class, or back."""
    low, high = _ends(values, inside)
    width = (high - low).clamp_min(1e-7)
    curve = send(torch.from_numpy(_curve(rng, falling)), values.device)
    places = ((values - low) / width).clamp(0, 1).mul(POINTS - 1).round().long()
    return curve[places] * width + low


def _ends(values: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of a class; 1 and 0 where the patch has none of it."""
    return torch.where(inside, values, 1.0).amin(), torch.where(inside, values, 0.0).amax()


def _curve(rng: np.random.Generator, falling: bool) -> FloatArray:
    """A cubic Bezier curve with two random control points, float32 ``(POINTS,)`` over [0, 1]."""
    inner = rng.random((2, 2))
    points = np.stack([(0.0, 0.0), *inner, (1.0, 1.0)])
    t = np.linspace(0, 1, 4 * POINTS)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3])
    x, y = (weights @ points).T
    y = y[::-1] if falling else np.sort(y)
    curve: FloatArray = np.interp(np.linspace(0, 1, POINTS), np.sort(x), y).astype(np.float32)
    return curve


def _moved(values: Tensor, inside: Tensor, rng: np.random.Generator) -> Tensor:
    """Multiply values in [0, 1]; shift them as far as the middle part of a class stays there."""
    factor, shift = np.clip(rng.normal(1, 0.1), 0.9, 1.1), rng.normal(0, 0.5)
    stride = max(values.numel() // SAMPLES, 1)
    ranked = torch.where(inside, values, torch.nan).flatten()[::stride]
    least, most = _ends(values, inside)
    # A small structure may lie between all samples.
    lower = ranked.nanquantile(0.2).nan_to_num().clamp(least, most)
    upper = ranked.nanquantile(0.8).nan_to_num().clamp(least, most)
    moved = torch.full_like(lower, float(shift)).clamp(-lower, 1 - upper)
    return values.mul(float(factor)).add_(moved).clamp_(0, 1)
