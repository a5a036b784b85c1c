"""What the networks are shown: slices of volumes, and batches of them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossmod import Cohort, Context

if TYPE_CHECKING:
    from crossmod_cut import CUTOptions

BACKGROUND = 0.05
"""A slice without a voxel above this is empty."""


class Slice(NamedTuple):
    """An image ``(I, J)`` in [0, 1], and what to call it."""

    image: NDArray[np.float16]
    name: str


class Batch(NamedTuple):
    """Images ``(B, 1, H, W)`` in [-1, 1], and what to call them."""

    images: Tensor
    names: list[str]


def foreground_slices(images: Cohort) -> list[Slice]:
    """The slices along K of images in [0, 1] that show something; half precision halves memory."""
    return [
        Slice(np.ascontiguousarray(image, np.float16), f"{volume.case} slice {k}")
        for volume in images.volumes()
        for k, image in enumerate(np.moveaxis(volume.data[0], 2, 0))
        if image.max() > BACKGROUND
    ]


class Batches:
    """Batches of one modality; a batch is the same whenever it is made.

    Every slice is shown once before any comes again. Slices larger than ``size`` are cropped at a
    random place.

    Args:
        modality: a name, so that two modalities get other random numbers.
        slices: what there is.
        size: height and width of a batch, pixels.
        options: what the recipe says.
        ctx: the run; its seed decides the order, the crops and the flips.
    """

    def __init__(
        self,
        modality: str,
        slices: list[Slice],
        size: NDArray[np.int64],
        options: CUTOptions,
        ctx: Context,
    ) -> None:
        self.modality, self.slices, self.size = modality, slices, size
        self.options, self.ctx = options, ctx
        self._order = lru_cache(maxsize=1)(self._shuffled)

    def batch(self, step: int) -> Batch:
        """What a step is shown."""
        count = self.options.batch_size
        images = np.empty((count, *self.size), dtype=np.float32)
        names = []
        for place in range(count):
            epoch, item = divmod(step * count + place, len(self.slices))
            chosen = self.slices[self._order(epoch)[item]]
            rng = self.ctx.rng("crop", self.modality, epoch, item)
            room = np.array(chosen.image.shape) - self.size + 1
            i, j = (int(start) for start in rng.integers(room))
            crop = chosen.image[i : i + self.size[0], j : j + self.size[1]]
            images[place] = crop[::-1] if self.options.flip and rng.random() < 0.5 else crop
            names.append(chosen.name)
        return Batch(torch.from_numpy(images[:, None] * 2 - 1), names)

    def _shuffled(self, epoch: int) -> list[int]:
        rng = self.ctx.rng("order", self.modality, epoch)
        order: list[int] = rng.permutation(len(self.slices)).tolist()
        return order
