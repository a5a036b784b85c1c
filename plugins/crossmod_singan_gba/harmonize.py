"""Harmonization: let the fine generators redraw slices in the texture they have learned."""

from __future__ import annotations

import numpy as np
import torch

from crossmod import FloatArray
from crossmod_singan_gba.cascade import Cascade

SLICES_AT_ONCE = 8


def harmonize(
    cascade: Cascade, slices: FloatArray, start: int, rng: np.random.Generator
) -> FloatArray:
    """Equation (6) of Salle et al. 2024: shrink, then run the generators from ``start`` on.

    Args:
        cascade: the trained generators.
        slices: ``(S, H, W)`` in [0, 1]; they need not have the size of the training slice.
        start: the first scale that runs, 1 to ``cascade.last``; the higher, the less changes.
        rng: fresh noise for every scale.

    Returns:
        Redrawn slices ``(S, H, W)`` in [0, 1].
    """
    count, height, width = slices.shape
    sides = cascade.sides((height, width))
    noises = [
        torch.from_numpy(rng.standard_normal((count, 1, *side), dtype=np.float32))
        for side in sides[start:]
    ]
    device = next(cascade.generators[-1].parameters()).device
    redrawn = []
    for first in range(0, count, SLICES_AT_ONCE):
        part = slice(first, first + SLICES_AT_ONCE)
        images = torch.from_numpy(np.ascontiguousarray(slices[part])).to(device)[:, None] * 2 - 1
        images = cascade.resize(images, sides[start - 1])
        with torch.no_grad():
            images = cascade.run(images, [noise[part].to(device) for noise in noises], start)
        images = cascade.resize(images.clamp(-1, 1), (height, width))
        redrawn.append((images[:, 0].cpu().numpy() + 1) / 2)
    return np.concatenate(redrawn)
