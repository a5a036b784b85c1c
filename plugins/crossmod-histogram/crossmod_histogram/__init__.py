"""Histogram matching: source images get the gray levels of the target modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from crossmod import Cohort, Context, Count, Options, State, Translator, Volume, hookimpl


class HistogramOptions(Options):
    """Options of the `histogram` translator."""

    levels: Count = 64
    """How many quantiles to match, evenly spaced from the darkest voxel to the brightest."""


class HistogramMatching(Translator[HistogramOptions]):
    """Give source images the gray levels of the target modality."""

    def fit(self, source: Cohort, target: Cohort, ctx: Context) -> State:
        """Learn the quantiles of the target, averaged over its images."""
        steps = self._steps()
        levels = [np.quantile(volume.data, steps) for volume in ctx.progress(target.volumes())]
        return State({"levels": np.mean(levels, axis=0)})

    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Map the quantiles of each image to those of the target, linearly in between."""
        for volume in volumes:
            own = np.quantile(volume.data, self._steps())
            levels = state["levels"].astype(np.float64)
            yield volume.with_data(np.interp(volume.data, own, levels).astype(np.float32))

    def _steps(self) -> np.ndarray:
        return np.linspace(0, 1, self.options.levels)


@hookimpl
def crossmod_stage() -> type[HistogramMatching]:
    """Offer the translator."""
    return HistogramMatching
