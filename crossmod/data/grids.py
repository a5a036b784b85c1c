"""Bring every image onto one kind of grid, and predictions back onto their own.

Resample to a common spacing along the axes of the acquisition, crop in plane around the head
(Choi 2021; paper, section 4.2.2), scale the intensity to [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from crossmod.data.interpolation import Box, Interpolation, box_around, interpolated
from crossmod.data.outline import Center, center_of, profile
from crossmod.data.volumes import Affine, FloatArray, LabelArray, spacing_of
from crossmod.errors import DataError
from crossmod.options import Fraction, Options, Size, Spacing, Window

EDGE = 1e-3
"""Voxels by which centers stay within the volume; beyond its edge interpolation finds nothing."""

TIE = 1e-6
"""Shares of classes that differ by less are equal; single precision would decide between them."""

MOST_VOXELS = 300_000_000
"""Voxels of a common grid, where nobody says otherwise: as many as the intake takes of a scan."""


RANGES = {"clip_fractions", "window"}
"""Keys of which one says what is mapped to 0 and 1."""

WHOLE = (0.0, 1.0)
"""Fractions that clip nothing."""


class Preprocess(Options):
    """The common grid and intensity range."""

    spacing_mm: Spacing
    """Voxel size along the left-right, back-front and foot-head axes of the acquisition."""
    crop: tuple[Size, Size] | None = None
    """In-plane voxels kept around the center of the head or body; without it, the whole plane is
    kept."""
    center: Center = "bright"
    """Center of the crop: "bright", the mean position of the brightest quarter of all voxels
    (paper); "head", the middle of all that is not air; "body", the middle of its largest connected
    part, which leaves out the table of a CT scanner. Different tissue is bright in each modality;
    if the crops of two modalities lie apart, a translator learns to shift anatomy, and labels no
    longer fit. The units and the offset of intensities make no difference."""
    interpolation: Interpolation = "linear"
    """How images are resampled: linearly, or with cubic B-splines, which preserve more fine detail
    (nnU-Net's choice); overshoot is clipped to the range of the scan before scaling. Neither
    smooths before resampling to a coarser grid (no anti-aliasing; nor does nnU-Net). Label maps and
    probabilities are always interpolated linearly."""
    clip_fractions: tuple[Fraction, Fraction] = WHOLE
    """Quantiles of the cropped image that are mapped to 0 and 1; values beyond are clipped."""
    window: Window | None = None
    """Intensities that are mapped to 0 and 1 instead, the same for every scan, such as
    `[-160, 240]` HU for soft tissue on CT; values beyond are clipped."""

    @model_validator(mode="after")
    def _one_range(self) -> Preprocess:
        if self.window is not None and self.clip_fractions != WHOLE:
            raise ValueError(
                "window replaces clip_fractions: remove window or set clip_fractions = [0.0, 1.0]"
            )
        return self

    def with_changes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Its keys with some changed; a new range, of either kind, takes the place of the old."""
        usual = self.model_dump()
        if RANGES & changes.keys():
            usual = {key: value for key, value in usual.items() if key not in RANGES}
        return {**usual, **changes}

    @property
    def content(self) -> dict[str, Any]:
        """What enters a step key: a window only where there is one."""
        return self.model_dump(exclude=None if self.window else {"window"})


@dataclass(frozen=True)
class Grid:
    """A voxel grid: ``shape`` (I, J, K) and ``affine`` voxel -> RAS+ mm.

    Example:
        >>> grid = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
        >>> part = grid.part((slice(1, 3), slice(0, 4), slice(2, 4)))
        >>> part.shape, part.affine[:3, 3].tolist()
        ((2, 4, 2), [2.0, 0.0, 4.0])
    """

    shape: tuple[int, ...]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K."""
        return spacing_of(self.affine)

    def part(self, box: Box) -> Grid:
        """The grid of the voxels in a box."""
        start = [one.start for one in box]
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ start
        return Grid(tuple(one.stop - one.start for one in box), affine)

    def box_around(self, inner: Grid) -> Box:
        """The voxels around the extent of another grid: all that interpolation inside it reads."""
        return box_around(np.linalg.inv(self.affine) @ inner.affine, inner.shape, self.shape)


def closest_canonical(data: NDArray[np.generic], affine: Affine) -> tuple[NDArray, Affine]:  # type: ignore[type-arg]
    """Permute and flip the axes of ``(I, J, K)`` data so that they run closest to R, A, S."""
    from nibabel import orientations

    axes = orientations.io_orientation(affine)
    turned = orientations.apply_orientation(data, axes)
    return turned, affine @ orientations.inv_ornt_aff(axes, data.shape)


def common_grid(data: FloatArray, affine: Affine, options: Preprocess) -> Grid:
    """The grid an image ``(I, J, K)`` in canonical orientation is brought onto.

    It covers the same extent with the new spacing, up to half a voxel, then keeps ``crop`` voxels
    around the head; these may lie outside a small volume.
    """
    old, new = np.array(spacing_of(affine)), np.array(options.spacing_mm)
    shape = _resampled(data.shape, old, new).astype(int)
    # The extents share their corner, not the first voxel center; a single voxel lies in the middle.
    first = np.where(shape == 1, (np.array(data.shape) - 1) / 2, (new / old - 1) / 2)
    if options.crop is not None:
        center = (center_of(data, options.center) - first) * old / new
        start = np.round(center[:2] - (np.array(options.crop) - 1) / 2)
        shape[:2] = options.crop
        first[:2] += start * (new / old)[:2]
    scaled = np.array(affine) @ np.diag([*(new / old), 1.0])
    scaled[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return Grid(tuple(shape.tolist()), scaled)


def _resampled(shape: tuple[int, ...], old: ArrayLike, new: ArrayLike) -> NDArray[np.float64]:
    """Voxels along each axis that cover the same extent with another spacing."""
    resampled: NDArray[np.float64] = np.ceil(np.multiply(shape, old) / new - 0.5 - EDGE)
    return np.maximum(resampled, 1)


def common_shape(grid: Grid, options: Preprocess) -> NDArray[np.float64]:
    """Voxels (I, J, K) of a scan once it is on the common grid; as floats, since too many may be.

    Example:
        >>> scan = Grid((4, 4, 4), np.eye(4))
        >>> common_shape(scan, Preprocess(spacing_mm=(2.0, 2.0, 2.0), crop=(3, 3))).tolist()
        [3.0, 3.0, 2.0]
    """
    nothing, upright = closest_canonical(np.broadcast_to(np.float32(0), grid.shape), grid.affine)
    shape = _resampled(nothing.shape, spacing_of(upright), options.spacing_mm)
    shape[:2] = options.crop or shape[:2]
    return shape


def require_moderate(grid: Grid, options: Preprocess, most: int = MOST_VOXELS) -> None:
    """Refuse a scan that would fill the memory once it is on the common grid.

    Args:
        grid: where the voxels of the scan lie.
        options: the common grid.
        most: voxels of the common grid that are allowed.

    Raises:
        DataError: its voxels are too large, or those of the common grid too small.
    """
    shape = common_shape(grid, options)
    if not np.prod(shape) <= most:
        nothing = np.broadcast_to(np.float32(0), grid.shape)
        sizes = spacing_of(closest_canonical(nothing, grid.affine)[1])
        found = f"voxels of {by(sizes)} mm give {by(shape)} of {by(options.spacing_mm)} mm"
        raise DataError(
            found,
            where="pixdim",
            allowed=f"{most} voxels on the common grid",
            fix="correct the header, or choose a larger spacing_mm or a smaller crop",
        )


def by(numbers: Iterable[float]) -> str:
    """Sizes along the axes, as messages show them."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def to_common(
    data: FloatArray,
    labels: LabelArray | None,
    affine: Affine,
    options: Preprocess,
    most: int = MOST_VOXELS,
) -> tuple[FloatArray, LabelArray | None, Affine]:
    """Preprocess one image and its label map.

    Args:
        data: image ``(I, J, K)``, any units.
        labels: label map ``(I, J, K)`` on the same grid, or None.
        affine: voxel -> RAS+ mm.
        options: the common grid and intensity range.
        most: voxels of the common grid that are allowed.

    Returns:
        Image ``(I', J', K')`` in [0, 1], label map on the same grid, affine. Where the crop leaves
        the volume, the image has its darkest value and the label map is background.

    Raises:
        DataError: the common grid has more voxels than that.

    Example:
        >>> scan = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
        >>> options = Preprocess(spacing_mm=(2.0, 2.0, 2.0))
        >>> image, labels, affine = to_common(scan, None, np.eye(4), options)
        >>> image.shape, float(image.min()), float(image.max())
        ((2, 2, 2), 0.0, 1.0)
    """
    require_moderate(Grid(data.shape, affine), options, most)
    image, canonical = closest_canonical(data, affine)
    grid = common_grid(image, canonical, options)
    low, high = float(image.min()), float(image.max())
    resampled = resample(image, canonical, grid, low, options.interpolation)
    if options.interpolation == "cubic":
        np.clip(resampled, low, high, out=resampled)
    scaled = to_unit_range(resampled, options.clip_fractions, options.window)
    if labels is None:
        return scaled, None, grid.affine
    turned, _ = closest_canonical(labels, affine)
    return scaled, resample_labels(turned, canonical, grid), grid.affine


def to_unit_range(
    data: FloatArray, fractions: tuple[float, float], window: tuple[float, float] | None = None
) -> FloatArray:
    """Map the two quantiles of the data, or the ends of a window, to 0 and 1 and clip.

    Example:
        >>> to_unit_range(np.array([0, 50, 100, 150, 200]), (0.25, 0.75)).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
        >>> to_unit_range(np.array([-1000, 0, 40, 100]), (0, 1), (-60, 140)).tolist()
        [0.0, 0.30000001192092896, 0.5, 0.800000011920929]
    """
    low, high = window or np.quantile(data, fractions)
    scaled: FloatArray = np.clip((data - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return scaled


def resample(
    data: NDArray[np.generic],
    affine: Affine,
    grid: Grid,
    outside: float = 0.0,
    interpolation: Interpolation = "linear",
) -> FloatArray:
    """Interpolate ``(I, J, K)`` data on another grid; ``outside`` beyond their extent.

    Example:
        >>> data = np.array([0.0, 2.0, 4.0]).reshape(3, 1, 1)
        >>> finer = Grid((5, 1, 1), np.diag([0.5, 1, 1, 1]))
        >>> resample(data, np.eye(4), finer).ravel().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    matrix = np.linalg.inv(affine) @ grid.affine
    return interpolated(data, matrix, grid.shape, outside, interpolation)


def resample_labels(labels: LabelArray, affine: Affine, grid: Grid) -> LabelArray:
    """The label with the largest interpolated share at each voxel of another grid.

    Ties go to background, between labels to the smaller one.
    """
    box = _box_of(labels > 0)
    part = labels[box]
    values = np.unique(part[part > 0])
    masks = [part == value for value in values]
    winner = _strongest(masks, Grid(labels.shape, affine).part(box), grid)
    labels_found: LabelArray = np.array([0, *values], dtype=np.uint8)[winner]
    return labels_found


def to_native(probabilities: FloatArray, affine: Affine, native: Grid) -> LabelArray:
    """Bring class probabilities back to the grid of the scan as a label map.

    A label map that goes there by `to_common` and comes back keeps its outlines. Take the larger
    voxel of the two grids along each axis, and as outline the 0.5 level of the interpolated mask:
    a voxel center changes its label only if the old outline passes within half a voxel of it along
    every axis, for rounded structures at least three voxels across. From six voxels across on, the
    new outline passes within one voxel of it. A sharp corner may lose up to 0.8 voxel, and what is
    thinner than a voxel may vanish.

    Args:
        probabilities: ``(1 + classes, I, J, K)``, background first.
        affine: their voxel -> RAS+ mm.
        native: the grid of the scan, any orientation.

    Returns:
        uint8 label map on the native grid; background outside the cropped field of view.
    """
    classes = probabilities[1:]
    # Interpolation cannot lift a class above background where no voxel around has it there.
    box = _box_of(classes.max(axis=0) > 1 - classes.sum(axis=0))
    common = Grid(probabilities.shape[1:], affine)
    return _strongest([one[box] for one in classes], common.part(box), native)


def _strongest(shares: Sequence[NDArray[np.generic]], given: Grid, grid: Grid) -> LabelArray:
    """Number of the class with the largest interpolated share, 0 where background has as much.

    Args:
        shares: ``(I, J, K)`` of each class on the grid ``given``; background has the rest up to 1.
        given: where the shares are known; background surrounds it.
        grid: where the classes are wanted.
    """
    winner: LabelArray = np.zeros(grid.shape, np.uint8)
    box = grid.box_around(given)
    part = grid.part(box)
    classes = [resample(share, given.affine, part) for share in shares]
    background = 1 - np.sum(classes, axis=0)
    for number, one in enumerate(classes, start=1):
        one -= number * TIE
    winner[box] = np.argmax([background, *classes], axis=0)
    return winner


def _box_of(mask: NDArray[np.bool_]) -> Box:
    """The smallest box that holds the mask and one voxel more on each side, within the grid."""
    spans = []
    for axis, n in enumerate(mask.shape):
        found = np.flatnonzero(profile(mask, axis))
        spans.append(
            slice(max(found[0] - 1, 0), min(found[-1] + 2, n)) if found.size else slice(0, 0)
        )
    return tuple(spans)
