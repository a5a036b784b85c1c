"""What networks are shown: slices of volumes, batches of them, and earlier translations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from crossmod_cyclegan import CycleGANOptions

Slices = list[NDArray[np.float16]]

BACKGROUND = 0.05
"""A slice without a voxel above this is empty."""


def foreground_slices(volumes: Iterable[NDArray[np.float32]]) -> Slices:
    """The slices ``(I, J)`` along K of volumes ``(I, J, K)`` in [0, 1] that show something.

    Half precision halves the memory of a cohort; its steps are 1/2048 at most.
    """
    return [
        np.ascontiguousarray(volume[:, :, k], dtype=np.float16)
        for volume in volumes
        for k in range(volume.shape[2])
        if volume[:, :, k].max() > BACKGROUND
    ]


def batches(
    images: Slices, size: NDArray[np.int64], options: CycleGANOptions, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Endless batches ``(B, 1, H, W)`` in [-1, 1]; every slice once before any comes again.

    Slices larger than ``size`` (H, W) are cropped at a random place.
    """
    order: list[int] = []
    while True:
        batch = np.empty((options.batch_size, 1, *size), dtype=np.float32)
        for item in batch[:, 0]:
            if not order:
                order = rng.permutation(len(images)).tolist()
            image = images[order.pop()]
            i, j = rng.integers(np.array(image.shape) - size + 1)
            crop = image[i : i + size[0], j : j + size[1]]
            item[:] = crop[::-1] if options.flip and rng.random() < 0.5 else crop
        yield torch.from_numpy(batch * 2 - 1)


class ImagePool:
    """Earlier translations, so that discriminators do not forget (Shrivastava et al. 2017).

    Once full, each image is swapped for a stored one with probability one half.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.rng = rng
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of ``(B, 1, H, W)`` and return as many, new or old."""
        if self.size == 0:
            return images
        return torch.stack([self._exchange_one(image) for image in images])

    def _exchange_one(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image)
            return image
        if self.rng.random() < 0.5:
            return image
        place = int(self.rng.integers(self.size))
        old, self.images[place] = self.images[place], image
        return old
