"""What networks are shown: slices of volumes, batches of them, and earlier translations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from crossmod import Cohort, Context, FloatArray

if TYPE_CHECKING:
    from crossmod_cyclegan import CycleGANOptions

HalfArray = NDArray[np.float16]

BACKGROUND = 0.05
"""A slice without a voxel above this is empty."""


class Slice(NamedTuple):
    """An image ``(I, J)`` in [0, 1], and what to call it."""

    image: HalfArray
    name: str


def foreground_slices(images: Cohort) -> list[Slice]:
    """The slices along K of images in [0, 1] that show something.

    Half precision halves the memory of a cohort; its steps are 1/2048 at most.
    """
    return [
        Slice(np.ascontiguousarray(volume.data[0, :, :, k], np.float16), f"{volume.case} slice {k}")
        for volume in images.volumes()
        for k in range(volume.grid[2])
        if volume.data[0, :, :, k].max() > BACKGROUND
    ]


class Batches:
    """Batches of one modality; a batch is the same whenever it is made.

    Every slice is shown once before any comes again. Where the options say so, slices are enlarged.
    Slices larger than ``size`` are cropped at a random place.

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
        options: CycleGANOptions,
        ctx: Context,
    ) -> None:
        self.modality, self.slices, self.size = modality, slices, size
        self.options, self.ctx = options, ctx
        self.scale = (options.resize_to or min(size)) / min(size)
        self._order = lru_cache(maxsize=1)(self._shuffled)

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        """Images ``(B, 1, H, W)`` in [-1, 1] of a step, and their names."""
        images = np.empty((self.options.batch_size, 1, *self.size), dtype=np.float32)
        names = []
        for place, image in enumerate(images[:, 0]):
            epoch, item = divmod(step * len(images) + place, len(self.slices))
            chosen = self.slices[self._order(epoch)[item]]
            shown = resized(chosen.image, self.scale) if self.scale != 1 else chosen.image
            image[:] = self._crop(shown, self.ctx.rng("crop", self.modality, epoch, item))
            names.append(chosen.name)
        return torch.from_numpy(images * 2 - 1), names

    def _shuffled(self, epoch: int) -> list[int]:
        rng = self.ctx.rng("order", self.modality, epoch)
        order: list[int] = rng.permutation(len(self.slices)).tolist()
        return order

    def _crop(
        self, image: HalfArray | FloatArray, rng: np.random.Generator
    ) -> HalfArray | FloatArray:
        i, j = rng.integers(np.array(image.shape) - self.size + 1)
        crop = image[i : i + self.size[0], j : j + self.size[1]]
        return crop[::-1] if self.options.flip and rng.random() < 0.5 else crop


def resized(image: HalfArray, scale: float) -> FloatArray:
    """Resize an image ``(I, J)`` in [0, 1] by bicubic interpolation; the same range."""
    rows, columns = (round(side * scale) for side in image.shape)
    picture = Image.fromarray(image.astype(np.float32))
    larger = picture.resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(larger, dtype=np.float32).clip(0, 1)


class ImagePool:
    """Earlier translations, so that discriminators do not forget (Shrivastava et al. 2017).

    Once full, each image is swapped for a stored one with probability one half.

    Args:
        size: how many are stored.
        modality: a name, so that two pools get other random numbers.
        ctx: the run; its seed decides, for each image anew.
    """

    def __init__(self, size: int, modality: str, ctx: Context) -> None:
        self.size, self.modality, self.ctx = size, modality, ctx
        self.images: list[Tensor] = []
        self.seen = 0

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of ``(B, 1, H, W)`` and return as many, new or old."""
        if self.size == 0:
            return images
        return torch.stack([self._exchange_one(image) for image in images])

    def _exchange_one(self, image: Tensor) -> Tensor:
        self.seen += 1
        if len(self.images) < self.size:
            self.images.append(image)
            return image
        rng = self.ctx.rng("pool", self.modality, self.seen)
        if rng.random() < 0.5:
            return image
        place = int(rng.integers(self.size))
        old, self.images[place] = self.images[place].to(image), image
        return old

    def state_dict(self) -> dict[str, Any]:
        """What it holds."""
        return {"images": self.images, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what another one held."""
        self.images, self.seen = list(state["images"]), state["seen"]
