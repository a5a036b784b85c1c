"""A segmenter that learns nothing and finds bright voxels: where it outlines can be foretold."""

import numpy as np

from crossmod import Options, Prediction, Segmenter, hookimpl


class BrightOptions(Options):
    """What counts as bright."""

    tumor: float = 0.65
    """Level above which a voxel is tumor."""


class Bright(Segmenter[BrightOptions]):
    """Bright voxels are tumor; nothing is cochlea."""

    def fit(self, train, validation, ctx):
        note = np.frombuffer(b'{"why": "for tests"}', np.uint8)
        return {"level": np.array([self.options.tumor]), "note": note}

    def predict(self, volumes, state, ctx):
        for volume in volumes:
            if volume.case.startswith("trouble"):
                raise ValueError("too much trouble")
            level = float(state["level"][0])
            tumor = np.clip((volume.data[0] - level) / 0.2 + 0.5, 0, 1)
            shares = np.stack([1 - tumor, tumor, np.zeros_like(tumor)])
            yield Prediction(volume, shares.astype(np.float32))


@hookimpl
def crossmod_stage():
    return Bright
