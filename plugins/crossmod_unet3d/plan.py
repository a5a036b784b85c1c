"""Patch, depth, kernels and batch planned from spacing and shape, by nnU-Net's rules.

Source: Isensee et al., "nnU-Net", Nature Methods 18 (2021), supplementary note 2, and the rules of
nnU-Net 2.8 for `3d_fullres`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmod import RecipeError, State

if TYPE_CHECKING:
    from crossmod_unet3d import UNet3DOptions

Axes = tuple[int, int, int]

PLAN = "plan"  # among the notes of a state

REFERENCE_FEATURES = 560_000_000  # feature map values that fit in 8 GB with two patches
REFERENCE_MEMORY_GB = 8.0
REFERENCE_BATCH = 2
START_VOXELS = 256**3
SMALLEST_EDGE = 4  # voxels left at the bottom of the network
COVERED = 0.05  # share of all voxels one batch may show
FEWEST_STAGES = 3  # an encoder, a decoder and what lies between
CONVOLUTIONS = 2  # per stage
THIN = 3.0  # how many times longer the longest edge of a thin patch is


@dataclass(frozen=True)
class Plan:
    """The shape of a network and of what it is trained on.

    Attributes:
        spacing_mm: voxel size the plan was made for.
        patch: voxels of one training patch.
        batch: patches per step.
        strides: per stage; the first is (1, 1, 1).
        kernels: per stage.
        channels: per stage.
    """

    spacing_mm: tuple[float, float, float]
    patch: Axes
    batch: int
    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    channels: tuple[int, ...]

    @property
    def thick_axis(self) -> int | None:
        """The axis of the largest voxel edge, if patches are thin along it.

        Such patches are rotated, scaled and coarsened in the other two axes only, plane by plane
        (nnU-Net's dummy 2D augmentation).
        """
        # The last of equals: the slices of a file, nnU-Net's first axis.
        axis = max(range(3), key=lambda axis: (self.spacing_mm[axis], axis))
        return axis if max(self.patch) > THIN * self.patch[axis] else None

    @classmethod
    def of(cls, state: State) -> Plan:
        """The plan by which a state was learned."""
        # Models from before states had notes keep it as bytes of JSON.
        content = state.notes.get(PLAN) or json.loads(state[PLAN].tobytes())
        return cls(**{name: _tuples(value) for name, value in content.items()})

    def require_same_network(self, before: Plan) -> None:
        """Weights can be taken over only where every layer has the same shape.

        Raises:
            RecipeError: the plans differ in strides, kernels or channels.
        """
        for what in ("strides", "kernels", "channels"):
            new, old = getattr(self, what), getattr(before, what)
            if new != old:
                raise RecipeError(
                    f"this network cannot start from the weights of the previous round: its {what}"
                    f" are {new}, theirs are {old}",
                    where="pseudo_label.warm_start",
                    allowed="warm_start = false, or the same spacing and network options in all"
                    " rounds",
                )


def make_plan(
    spacing_mm: Sequence[float],
    median_shape: Sequence[int],
    *,
    cases: int,
    classes: int,
    options: UNet3DOptions,
) -> Plan:
    """Plan a network for a data set.

    Args:
        spacing_mm: voxel size along I, J, K.
        median_shape: median number of voxels along I, J, K.
        cases: number of training images.
        classes: number of classes without background.
        options: what the recipe decides.
    """
    start = options.patch or _start_patch(spacing_mm, median_shape)
    budget = REFERENCE_FEATURES * options.memory_gb / REFERENCE_MEMORY_GB
    strides, kernels = _topology(spacing_mm, start)
    patch = _padded(start, strides)

    def cost() -> float:
        channels = _channels(len(strides), options)
        return feature_values(patch, strides, channels, outputs=1 + classes)

    while options.patch is None and cost() > budget:
        smaller = _shrunk(spacing_mm, patch, median_shape, strides)
        if smaller == patch:
            break
        strides, kernels = _topology(spacing_mm, smaller)
        patch = _padded(smaller, strides)
    batch = options.batch_size or _batch(
        patch, cost() / budget, float(np.prod(median_shape)) * cases
    )
    missing = FEWEST_STAGES - len(strides)
    return Plan(
        spacing_mm=_triple(spacing_mm),
        patch=patch,
        batch=batch,
        strides=strides + ((1, 1, 1),) * missing,
        kernels=kernels + ((3, 3, 3),) * missing,
        channels=_channels(max(len(strides), FEWEST_STAGES), options),
    )


def feature_values(
    patch: Axes, strides: Sequence[Axes], channels: Sequence[int], *, outputs: int
) -> float:
    """Values in all feature maps of one patch on its way through the network.

    Every stage holds its convolutions, every decoder stage also the upsampled map; the last one
    the class scores.
    """
    voxels = np.cumprod(np.array(strides), axis=0)
    sizes = [float(np.prod(np.array(patch) / scale)) for scale in voxels]
    encoder = sum(CONVOLUTIONS * size * width for size, width in zip(sizes, channels, strict=True))
    decoder = sum(
        (CONVOLUTIONS + 1) * size * width for size, width in zip(sizes[:-1], channels, strict=False)
    )
    return encoder + decoder + sizes[0] * outputs


def _start_patch(spacing_mm: Sequence[float], median_shape: Sequence[int]) -> Axes:
    """As many mm along every axis, 256^3 voxels in all, but no larger than the images."""
    density = 1.0 / np.array(spacing_mm, dtype=float)
    edge = (START_VOXELS / np.prod(density)) ** (1 / 3)
    wanted = [round(float(value)) for value in density * edge]
    return _triple([min(a, int(b)) for a, b in zip(wanted, median_shape, strict=True)])


def _topology(
    spacing_mm: Sequence[float], patch: Sequence[int]
) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    """Strides and kernels of all stages.

    Fine axes are halved first, until spacings are within a factor of two; an axis gets kernels
    of 3 voxels once its spacing is that close to the finest.
    """
    spacing, size = np.array(spacing_mm, dtype=float), np.array(patch)
    kernel = np.ones(3, dtype=int)
    strides, kernels = [(1, 1, 1)], []
    while True:
        divisible = size >= 2 * SMALLEST_EDGE
        if not divisible.any():
            break
        halved = divisible & (spacing < 2 * spacing[divisible].min())
        if halved.sum() == 1 and size[halved][0] < 3 * SMALLEST_EDGE:
            break
        kernel[spacing < 2 * spacing.min()] = 3
        stride = np.where(halved, 2, 1)
        kernels.append(_triple(kernel))
        strides.append(_triple(stride))
        spacing, size = spacing * stride, -(-size // stride)
    return tuple(strides), (*kernels, (3, 3, 3))


def _shrunk(
    spacing_mm: Sequence[float],
    patch: Axes,
    median_shape: Sequence[int],
    strides: Sequence[Axes],
) -> Axes:
    """The patch with one step less along the axis that covers most of the image."""
    axis = int(np.argsort(np.array(patch) / np.array(median_shape), kind="stable")[-1])
    # The step is the divisor of the smaller patch: one stage less may allow a smaller step.
    tentative = list(patch)
    tentative[axis] -= _divisor(strides)[axis]
    if tentative[axis] < SMALLEST_EDGE:
        return patch
    smaller = list(patch)
    smaller[axis] -= _divisor(_topology(spacing_mm, tentative)[0])[axis]
    return _triple(smaller)


def _batch(patch: Axes, share: float, voxels: float) -> int:
    """Patches per step: what the budget and the size of the data set allow, two at least."""
    by_memory = round(REFERENCE_BATCH / share)
    by_data = round(float(voxels * COVERED / np.prod(patch)))
    return int(max(min(by_memory, by_data), REFERENCE_BATCH))


def _channels(stages: int, options: UNet3DOptions) -> tuple[int, ...]:
    return tuple(min(options.base_channels * 2**s, options.max_channels) for s in range(stages))


def _divisor(strides: Sequence[Axes]) -> Axes:
    return _triple(np.prod(np.array(strides), axis=0))


def _padded(patch: Sequence[int], strides: Sequence[Axes]) -> Axes:
    divisor = _divisor(strides)
    return _triple([-(-size // d) * d for size, d in zip(patch, divisor, strict=True)])


def _triple(values: Sequence[float] | np.ndarray) -> tuple[Any, Any, Any]:
    first, second, third = np.asarray(values).tolist()
    return first, second, third


def _tuples(value: Any) -> Any:
    """What JSON has as lists, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
