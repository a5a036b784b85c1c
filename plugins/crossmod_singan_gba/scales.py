"""How many scales an image has, and of what size; needs no torch."""

from __future__ import annotations

import math

Side = tuple[int, int]


def ratios_of(shape: Side, scale_factor: float, min_size: int, max_size: int) -> list[float]:
    """The size of every scale relative to the training image, coarsest first.

    The number of scales follows from the wanted factor; the factor is then corrected so that the
    shorter side of the coarsest scale is ``min_size`` exactly (Shaham et al. 2019, official code).

    Args:
        shape: height and width of the training image, pixels.
        scale_factor: wanted ratio between neighboring scales, below 1.
        min_size: shorter side at the coarsest scale, pixels.
        max_size: longer side at the finest scale, pixels; larger images are shrunk to it.
    """
    shrink = min(1.0, max_size / max(shape))
    wanted = math.log(scale_factor)
    last = math.ceil(math.log(min_size / min(shape)) / wanted) + 1
    last -= math.ceil(math.log(shrink) / wanted)
    factor = float((min_size / (min(shape) * shrink)) ** (1 / last))
    return [shrink * factor ** (last - scale) for scale in range(last + 1)]
