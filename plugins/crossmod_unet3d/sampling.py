"""Where training patches come from: cases on disk or in memory, foreground oversampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossmod import Case, Cohort, DataError, FloatArray, LabelArray
from crossmod.torch import send
from crossmod_unet3d.plan import Axes

IGNORED = 255  # label of voxels that nothing is learned from
KEPT_VOXELS = 10_000  # foreground voxels remembered per class, as in nnU-Net

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Loaded:
    """One case in memory.

    Attributes:
        image: float32 ``(I, J, K)``, mean 0 and standard deviation 1 over the whole volume.
        labels: uint8 ``(I, J, K)``; `IGNORED` where nothing is learned.
        boxes: label -> the smallest box around all its voxels.
    """

    image: Tensor
    labels: Tensor
    boxes: Mapping[int, Box]

    @classmethod
    def of(cls, image: FloatArray, labels: LabelArray, ignore: np.ndarray | None = None) -> Loaded:
        """A case in main memory."""
        boxes = {label: _box_around(labels == label) for label in range(1, int(labels.max()) + 1)}
        if ignore is not None:
            labels = np.where(ignore, np.uint8(IGNORED), labels)
            boxes[IGNORED] = _box_around(ignore)
        found = {label: box for label, box in boxes.items() if box}
        return cls(torch.from_numpy(image), torch.from_numpy(labels), found)

    @property
    def shape(self) -> Axes:
        """Voxels along I, J, K."""
        i, j, k = self.image.shape
        return i, j, k

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return self.image.nbytes + self.labels.nbytes

    def shown_in(self, box: Box) -> list[int]:
        """The labels that a box may show; to look at the voxels would be to wait for a GPU."""
        return [
            label
            for label, around in self.boxes.items()
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(box, around, strict=True))
        ]


def _box_around(mask: np.ndarray) -> Box:
    """The smallest box around all true voxels; empty if there are none."""
    lines = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines if len(line))


def z_score(image: FloatArray) -> FloatArray:
    """An image ``(I, J, K)`` with mean 0 and standard deviation 1, float32."""
    spread = max(float(image.std()), 1e-8)
    return np.asarray((image - image.mean()) / spread, dtype=np.float32)


class TrainingCases:
    """The cases of a cohort, normalized, with the places of their structures.

    Volumes stay where there is room for them, the first ones on the first device; others are read
    again whenever they are needed.

    Attributes:
        names: case identifiers.
        shapes: voxels ``(I, J, K)`` of each case.
        median_shape: median of these along each axis.
        spacing_mm: median voxel size.
        voxels: per case, class -> ``(N, 3)`` voxel indices; those that are ignored are left out.
        weights: how much each case counts; None where all count the same and nothing is ignored.
    """

    def __init__(
        self, cohort: Cohort, room_bytes: Mapping[str, float], rng: np.random.Generator
    ) -> None:
        if not len(cohort):
            raise DataError("the training cohort is empty")
        self._cases: Sequence[Case] = cohort.cases
        self._kept: dict[int, Loaded] = {}
        self._room_bytes = dict(room_bytes)
        self.names = [case.case for case in cohort.cases]
        plain = all(case.weight == 1 and case.ignore is None for case in cohort.cases)
        self.weights = None if plain else [case.weight for case in cohort.cases]
        self.shapes: list[Axes] = []
        self.voxels: list[dict[int, np.ndarray]] = []
        spacings = []
        for index, case in enumerate(self._cases):
            loaded = self._read(index)
            labels = loaded.labels.numpy()
            self.shapes.append(loaded.shape)
            self.voxels.append(_foreground(labels, list(cohort.classes.values()), rng))
            spacings.append(case.volume().spacing_mm)
            self._keep(index, loaded)
        self.median_shape: list[int] = np.median(np.array(self.shapes), axis=0).astype(int).tolist()
        median = np.median(np.array(spacings), axis=0)
        self.spacing_mm = (float(median[0]), float(median[1]), float(median[2]))

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: int) -> Loaded:
        """A case, on the device it is kept on; one that is read again, in main memory."""
        return self._kept.get(index) or self._read(index)

    def _read(self, index: int) -> Loaded:
        pair = self._cases[index].pair()
        return Loaded.of(z_score(pair.image.data[0]), pair.labels, pair.ignore)

    def _keep(self, index: int, loaded: Loaded) -> None:
        """Keep a case on the first device that has room for it."""
        for device, room in self._room_bytes.items():
            if loaded.bytes <= room:
                self._room_bytes[device] -= loaded.bytes
                image, labels = send(loaded.image, device), send(loaded.labels, device)
                self._kept[index] = replace(loaded, image=image, labels=labels)
                return


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


def is_forced(item: int, batch: int, fraction: float, rng: np.random.Generator) -> bool:
    """Whether an item of a batch must show a structure: the last ones do, as in nnU-Net.

    A batch of one could only always do so or never; there, chance decides.
    """
    if batch == 1:
        return bool(rng.random() < fraction)
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


def cut(volume: Tensor, center: np.ndarray, patch: Axes) -> Tensor:
    """The patch around a voxel; what lies outside the volume is 0."""
    start = np.asarray(center) - np.array(patch) // 2
    stop, size = start + np.array(patch), np.array(volume.shape)
    inner = zip(np.clip(start, 0, size), np.clip(stop, 0, size), strict=True)
    margins = np.stack([np.clip(-start, 0, patch), np.clip(stop - size, 0, patch)], axis=1)
    return functional.pad(
        volume[tuple(slice(int(a), int(b)) for a, b in inner)], margins[::-1].ravel().tolist()
    )
