"""The layout in which a CPU computes convolutions."""

from __future__ import annotations

import torch
from torch import Tensor

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(images: Tensor) -> Tensor:
    """Images on a CPU with their channels last in memory, which layers then keep.

    Convolutions there compute in blocks of channels; from any other layout they copy their input
    and their output, forth and back. On other devices images stay as they are.

    Args:
        images: ``(B, C, H, W)`` or ``(B, C, I, J, K)``.

    Returns:
        The same shape and values.
    """
    if images.device.type != "cpu":
        return images
    if images.shape[1] == 1:  # already there, but for the stride of the channel that tells
        return images.contiguous().squeeze(1).unsqueeze(-1).movedim(-1, 1)
    return images.contiguous(memory_format=LAST[images.dim()])
