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

from crossmod import Cohort, Context, FloatArray, LabelArray, Pair

if TYPE_CHECKING:
    from crossmod_cyclegan import CycleGANOptions

HalfArray = NDArray[np.float16]

BACKGROUND = 0.05
"""A slice without a voxel above this is empty."""


IN_PLACE = np.zeros(2, np.float32)


class Slice(NamedTuple):
    """An image ``(I, J)`` in [0, 1], what to call it, and its labels, where they are used."""

    image: HalfArray
    name: str
    labels: LabelArray | None = None


class Batch(NamedTuple):
    """What one step is shown of one modality.

    Attributes:
        images: ``(B, 1, H, W)`` in [-1, 1].
        names: what to call each of them.
        labels: uint8 ``(B, H, W)``; None where they are not used.
    """

    images: Tensor
    names: list[str]
    labels: Tensor | None


def foreground_slices(images: Cohort, *, labeled: bool = False) -> list[Slice]:
    """The slices along K of images in [0, 1] that show something.

    Half precision halves the memory of a cohort; its steps are 1/2048 at most.

    Args:
        images: the cohort.
        labeled: whether slices bring their labels.
    """
    pairs = images.pairs() if labeled else ((volume, None) for volume in images.volumes())
    found = []
    for pair in pairs:
        volume, labels = (pair.image, pair.labels) if isinstance(pair, Pair) else pair
        for k in range(volume.grid[2]):
            image = volume.data[0, :, :, k]
            if image.max() > BACKGROUND:
                own = None if labels is None else np.ascontiguousarray(labels[:, :, k])
                half = np.ascontiguousarray(image, np.float16)
                found.append(Slice(half, f"{volume.case} slice {k}", own))
    return found


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
        apart: voxels along I and J by which heads lie off their place in the other modality
            ``(2,)``. Crops leave out what only one of the two can show at such a place.
    """

    def __init__(
        self,
        modality: str,
        slices: list[Slice],
        size: NDArray[np.int64],
        options: CycleGANOptions,
        ctx: Context,
        apart: FloatArray = IN_PLACE,
    ) -> None:
        self.modality, self.slices, self.size = modality, slices, size
        self.options, self.ctx = options, ctx
        self.scale = (options.resize_to or min(size)) / min(size)
        self.apart = np.rint(apart * self.scale).astype(np.int64)
        self._order = lru_cache(maxsize=1)(self._shuffled)
        drawn = slices if options.lesion_share else []
        self.showing = [
            n for n, one in enumerate(drawn) if one.labels is not None and one.labels.any()
        ]

    def batch(self, step: int) -> Batch:
        """What a step is shown."""
        count = self.options.batch_size
        images = np.empty((count, *self.size), dtype=np.float32)
        labels = np.zeros((count, *self.size), dtype=np.uint8)
        names = []
        for place in range(count):
            epoch, item = divmod(step * count + place, len(self.slices))
            chosen = self._chosen(epoch, item)
            window = self._window(
                chosen.image.shape, self.ctx.rng("crop", self.modality, epoch, item)
            )
            images[place] = window.of(resized(chosen.image, self.scale))
            if chosen.labels is not None:
                labels[place] = window.of(enlarged(chosen.labels, self.scale))
            names.append(chosen.name)
        given = torch.from_numpy(labels) if self.slices[0].labels is not None else None
        return Batch(torch.from_numpy(images[:, None] * 2 - 1), names, given)

    def _chosen(self, epoch: int, item: int) -> Slice:
        """A slice of the order of an epoch, or in its place one that shows a structure."""
        if self.showing:
            rng = self.ctx.rng("lesion", self.modality, epoch, item)
            if rng.random() < self.options.lesion_share:
                return self.slices[self.showing[int(rng.integers(len(self.showing)))]]
        return self.slices[self._order(epoch)[item]]

    def _shuffled(self, epoch: int) -> list[int]:
        rng = self.ctx.rng("order", self.modality, epoch)
        order: list[int] = rng.permutation(len(self.slices)).tolist()
        return order

    def _window(self, shape: tuple[int, ...], rng: np.random.Generator) -> Window:
        room = np.array([round(side * self.scale) for side in shape]) - self.size
        apart = self.apart.clip(-room, room)
        first, last = np.maximum(apart, 0), room + np.minimum(apart, 0)
        i, j = (int(place) for place in rng.integers(first, last + 1))
        flipped = self.options.flip and bool(rng.random() < 0.5)
        return Window(slice(i, i + self.size[0]), slice(j, j + self.size[1]), flipped)


class Window(NamedTuple):
    """A part of a slice, which may be mirrored along I."""

    rows: slice
    columns: slice
    flipped: bool

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """Cut it out of an image ``(I, J)``."""
        crop = image[self.rows, self.columns]
        return crop[::-1] if self.flipped else crop


def resized(image: HalfArray, scale: float) -> HalfArray | FloatArray:
    """Resize an image ``(I, J)`` in [0, 1] by bicubic interpolation; the same range."""
    if scale == 1:
        return image
    rows, columns = (round(side * scale) for side in image.shape)
    picture = Image.fromarray(image.astype(np.float32))
    larger = picture.resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(larger, dtype=np.float32).clip(0, 1)


def enlarged(labels: LabelArray, scale: float) -> LabelArray:
    """Resize labels ``(I, J)`` as `resized` does images; each pixel gets the nearest label."""
    if scale == 1:
        return labels
    rows, columns = (round(side * scale) for side in labels.shape)
    larger = Image.fromarray(labels).resize((columns, rows), Image.Resampling.NEAREST)
    return np.asarray(larger, dtype=np.uint8)


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
