"""Where training patches come from: cases on disk, a bounded cache, foreground oversampling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from crossmod import Case, Cohort, DataError, FloatArray, LabelArray
from crossmod_unet3d.plan import Axes

KEPT_VOXELS = 10_000  # foreground voxels remembered per class, as in nnU-Net


@dataclass(frozen=True)
class Loaded:
    """One case in memory.

    Attributes:
        image: float32 ``(I, J, K)``, mean 0 and standard deviation 1 over the whole volume.
        labels: uint8 ``(I, J, K)``.
    """

    image: FloatArray
    labels: LabelArray


def z_score(image: FloatArray) -> FloatArray:
    """An image ``(I, J, K)`` with mean 0 and standard deviation 1, float32."""
    spread = max(float(image.std()), 1e-8)
    return np.asarray((image - image.mean()) / spread, dtype=np.float32)


class TrainingCases:
    """The cases of a cohort, normalized, with the places of their structures.

    Volumes stay in memory while they fit ``cache_gb``; others are read again.

    Attributes:
        names: case identifiers.
        shapes: voxels ``(I, J, K)`` of each case.
        median_shape: median of these along each axis.
        spacing_mm: median voxel size.
        voxels: per case, class -> ``(N, 3)`` voxel indices.
    """

    def __init__(self, cohort: Cohort, cache_gb: float, rng: np.random.Generator) -> None:
        if not len(cohort):
            raise DataError("the training cohort is empty")
        self._cases: Sequence[Case] = cohort.cases
        self._cache: OrderedDict[int, Loaded] = OrderedDict()
        self._limit_bytes = cache_gb * 2**30
        self._used_bytes = 0
        self._lock = Lock()
        self.names = [case.case for case in cohort.cases]
        self.shapes: list[Axes] = []
        self.voxels: list[dict[int, np.ndarray]] = []
        spacings = []
        for index, case in enumerate(self._cases):
            loaded = self[index]
            self.shapes.append(loaded.image.shape)
            self.voxels.append(_foreground(loaded.labels, list(cohort.classes.values()), rng))
            spacings.append(case.volume().spacing_mm)
        self.median_shape: list[int] = np.median(np.array(self.shapes), axis=0).astype(int).tolist()
        median = np.median(np.array(spacings), axis=0)
        self.spacing_mm = (float(median[0]), float(median[1]), float(median[2]))

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: int) -> Loaded:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        pair = self._cases[index].pair()
        loaded = Loaded(z_score(pair.image.data[0]), pair.labels)
        with self._lock:
            if index not in self._cache:
                self._cache[index] = loaded
                self._used_bytes += loaded.image.nbytes + loaded.labels.nbytes
            while self._used_bytes > self._limit_bytes and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._used_bytes -= oldest.image.nbytes + oldest.labels.nbytes
        return loaded


def _foreground(
    labels: LabelArray, classes: Sequence[int], rng: np.random.Generator
) -> dict[int, np.ndarray]:
    found = {}
    for label in classes:
        places = np.argwhere(labels == label).astype(np.int32)
        if len(places) > KEPT_VOXELS:
            places = places[rng.choice(len(places), KEPT_VOXELS, replace=False)]
        if len(places):
            found[label] = places
    return found


def is_forced(item: int, batch: int, fraction: float) -> bool:
    """Whether an item of a batch must show a structure: the last ones do."""
    return item >= round(batch * (1 - fraction))


def draw_center(
    shape: Axes,
    patch: Axes,
    voxels: dict[int, np.ndarray],
    forced: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """The middle of a patch ``(3,)`` that leaves the volume as little as possible.

    Args:
        shape: voxels of the volume.
        patch: voxels of the patch.
        voxels: class -> voxel indices ``(N, 3)``.
        forced: center on a voxel of a class drawn uniformly, where there is one.
        rng: source of randomness.
    """
    size, half = np.array(shape), np.array(patch) // 2
    low, high = half, size - (np.array(patch) - half)
    if forced and voxels:
        places = voxels[int(rng.choice(sorted(voxels)))]
        wanted = places[rng.integers(len(places))]
    else:
        wanted = rng.integers(np.minimum(low, high), np.maximum(low, high) + 1)
    # A volume smaller than the patch sits in its middle.
    return np.where(low <= high, np.clip(wanted, low, high), size // 2)


def cut(array: np.ndarray, center: np.ndarray, patch: Axes) -> np.ndarray:
    """The patch around a voxel; what lies outside the array is 0."""
    start = np.asarray(center) - np.array(patch) // 2
    stop = start + np.array(patch)
    inner = tuple(
        slice(max(a, 0), max(min(b, n), 0))
        for a, b, n in zip(start, stop, array.shape, strict=True)
    )
    margins = [
        (max(-a, 0), max(b - n, 0)) for a, b, n in zip(start, stop, array.shape, strict=True)
    ]
    return np.pad(array[inner], margins)
