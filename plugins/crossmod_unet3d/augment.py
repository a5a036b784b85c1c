"""Random changes of training patches, with nnU-Net's probabilities, mostly by TorchIO.

Parameters are drawn from a generator of the caller and handed to TorchIO's deterministic
transforms, so that a patch depends on its own seed only and may be made in any thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchio
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch.nn import functional

from crossmod_unet3d import Augmentation
from crossmod_unet3d.plan import Axes

THIN = 3.0  # patches with such a ratio of edges are rotated in plane only
PLANE_DEGREES = 180.0
SPACE_DEGREES = 30.0
SCALES = (0.7, 1.4)
NOISE_VARIANCE = (0.0, 0.1)
BLUR_VOXELS = (0.5, 1.0)
BRIGHTNESS = CONTRAST = (0.75, 1.25)
RESOLUTION = (0.5, 1.0)
GAMMA = (0.7, 1.5)
BIAS = 0.3
BIAS_ORDER = 3


@dataclass(frozen=True)
class Motion:
    """A rotation and scaling of a patch.

    Attributes:
        degrees: angles about I, J, K.
        scale: above 1 enlarges what is seen.
    """

    degrees: tuple[float, float, float]
    scale: float


def draw_motion(patch: Axes, chances: Augmentation, rng: np.random.Generator) -> Motion | None:
    """A random motion, or None to leave the patch as it is."""
    degrees = (0.0, 0.0, 0.0)
    rotated, scaled = rng.random() < chances.rotation, rng.random() < chances.scaling
    if not (rotated or scaled):
        return None
    if rotated:
        angles = rng.uniform(-SPACE_DEGREES, SPACE_DEGREES, 3)
        if max(patch) / min(patch) > THIN:
            angles = np.zeros(3)
            angles[int(np.argmin(patch))] = rng.uniform(-PLANE_DEGREES, PLANE_DEGREES)
        degrees = (float(angles[0]), float(angles[1]), float(angles[2]))
    return Motion(degrees, float(rng.uniform(*SCALES)) if scaled else 1.0)


def size_before(patch: Axes, shape: Axes, spacing_mm: tuple[float, ...], motion: Motion) -> Axes:
    """Voxels to cut from a volume of ``shape`` so that the moved patch has no empty corners."""
    spacing, (about_i, about_j, about_k) = np.array(spacing_mm), motion.degrees
    # TorchIO turns about J, then I, then K; patches are looked up the other way round.
    turn = Rotation.from_euler("yxz", (about_j, about_i, about_k), degrees=True).as_matrix()
    edges_mm = np.abs(turn.T) @ (np.array(patch) * spacing) / motion.scale
    needed = np.ceil(edges_mm / spacing).astype(int) + 2  # half a voxel off the middle, linear
    size = np.clip(needed, patch, np.maximum(shape, patch))
    return int(size[0]), int(size[1]), int(size[2])


def move(
    image: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, ...], motion: Motion
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate and scale about the middle: image linear, labels nearest, 0 outside.

    Args:
        image: float32 ``(I, J, K)``.
        labels: uint8 ``(I, J, K)``.
        spacing_mm: voxel size; angles are true in mm.
        motion: what to do.
    """
    affine = np.diag([*spacing_mm, 1.0])
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=torch.from_numpy(image)[None], affine=affine),
        labels=torchio.LabelMap(tensor=torch.from_numpy(labels)[None], affine=affine),
    )
    transform = torchio.Affine(
        scales=(motion.scale,) * 3,
        degrees=motion.degrees,
        translation=(0, 0, 0),
        default_pad_value=0.0,
        copy=False,
    )
    moved = transform(subject)
    return moved["image"].data[0].numpy(), moved["labels"].data[0].numpy().astype(np.uint8)


def recolor(image: np.ndarray, chances: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change the intensities of a patch ``(I, J, K)``, in nnU-Net's order."""
    for name, change in CHANGES.items():
        if rng.random() < getattr(chances, name):
            image = change(image, rng)
    return image


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spread = np.float32(np.sqrt(rng.uniform(*NOISE_VARIANCE)))
    return np.asarray(image + rng.standard_normal(image.shape, dtype=np.float32) * spread)


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blurred = gaussian_filter(image, rng.uniform(*BLUR_VOXELS), truncate=3.0)
    return np.asarray(blurred)


def _brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image * np.float32(rng.uniform(*BRIGHTNESS))


def _contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, low, high = image.mean(), image.min(), image.max()
    stretched = (image - mean) * np.float32(rng.uniform(*CONTRAST)) + mean
    return np.asarray(np.clip(stretched, low, high))


def _low_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = rng.uniform(*RESOLUTION)
    small = [max(round(size * factor), 1) for size in image.shape]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    coarse = functional.interpolate(tensor, size=small, mode="nearest-exact")
    fine = functional.interpolate(coarse, size=image.shape, mode="trilinear")
    return np.asarray(fine[0, 0])


def _gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = image.min(), image.max()
    unit = (image - low) / max(high - low, 1e-8)
    curved = unit ** np.float32(rng.uniform(*GAMMA))
    spread = image.std() / max(curved.std(), 1e-8)
    return np.asarray((curved - curved.mean()) * spread + image.mean())


def _inverted_gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return -_gamma(-image, rng)


def _bias_field(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    terms = math.comb(BIAS_ORDER + 3, 3)
    coefficients = rng.uniform(-BIAS, BIAS, terms).tolist()
    low = image.min()  # a coil multiplies a signal that is never negative
    tensor = torch.from_numpy(np.asarray(image - low))[None]
    return np.asarray(torchio.BiasField(coefficients, BIAS_ORDER)(tensor)[0] + low)


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "low_resolution": _low_resolution,
    "inverted_gamma": _inverted_gamma,
    "gamma": _gamma,
    "bias_field": _bias_field,
}
