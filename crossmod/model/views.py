"""Changed views of a scan: a single model that is sure sees the same structures in all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmod.data.volumes import Affine, FloatArray, Prediction, Volume

SPACE = (1, 2, 3)
"""The axes I, J, K, counted with channels."""


@dataclass(frozen=True)
class View:
    """A change of a scan that can be undone in its label map.

    Attributes:
        mirrored: left and right change sides.
        shift: voxels added in front of every axis, with the values at its edge; windows and the
            coarse voxels of a network fall elsewhere.
    """

    mirrored: bool = False
    shift: int = 0

    def of(self, volume: Volume) -> Volume:
        """The view of a volume, on a grid of its own."""
        if self == VIEWS[0]:
            return volume
        data = self._turned(volume.data, volume.affine)
        margins = [(0, 0), *((self.shift, 0) for _ in SPACE)]
        return volume.with_data(np.ascontiguousarray(np.pad(data, margins, mode="edge")))

    def undone(self, prediction: Prediction, volume: Volume) -> Prediction:
        """A prediction for the view, on the grid of the volume."""
        inner = slice(self.shift, None)
        shares = prediction.probabilities[:, inner, inner, inner]
        return Prediction(volume, self._turned(shares, volume.affine))

    def _turned(self, data: FloatArray, affine: Affine) -> FloatArray:
        """Data ``(C, I, J, K)`` with left and right exchanged, where the view asks for it."""
        return np.flip(data, SPACE[lateral_axis(affine)]) if self.mirrored else data


def lateral_axis(affine: Affine) -> int:
    """The axis of the voxels, 0 to 2, that runs along left and right most."""
    return int(np.abs(affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())


VIEWS = (View(), View(mirrored=True), View(shift=1), View(shift=3))
"""The scan itself, and what it is compared with."""
